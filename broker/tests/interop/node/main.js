// `node main.js SCENARIO key=value...`: runs one scenario of ali-ons against the name server in
// `namesrv=HOST:PORT`, prints a line per check and ends with 0 only when every check held.
'use strict';

const checks = require('./checks');
const clients = require('./clients');

const scenarios = {
  'send-push': options => require('./push')(Number(options.messages)),
  retry: options => require('./retry')(Number(options.retries)),
  orderly: options => require('./orderly')(Number(options.messages)),
  delay: () => require('./delay')(),
};

async function main() {
  const [ name, ...pairs ] = process.argv.slice(2);
  const options = Object.fromEntries(pairs.map(pair => pair.split(/=(.*)/s).slice(0, 2)));
  try {
    clients.use(options.namesrv);
    await scenarios[name](options);
  } catch (error) {
    console.error(error);
    checks.fail(name, String(error));
  }
  // The client keeps sockets and timers that nobody ends; the verdict must not wait for them.
  process.exit(checks.finish());
}

main();
