// Messages with a delay level come once, never early and not much too late.
'use strict';

const checks = require('./checks');
const clients = require('./clients');
const sample = require('./sample');

const TOPIC = 'InteropNodeDelay';
const GROUP = 'interop-node-delay';
const MESSAGES = 24;
const DELAYS_MS = [ 0, 1_000, 5_000, 10_000 ];
const LATE_MS = 10_000;

const level = number => (number >> 1) % DELAYS_MS.length;

module.exports = async () => {
  const producer = await clients.producer('interop-node-delay');
  await clients.createTopic(producer, TOPIC, 4);
  const arrivals = new Map();
  const consumer = clients.consumer(GROUP);
  consumer.subscribe(TOPIC, '*', async message => {
    const number = sample.numberOf(message);
    arrivals.set(number, [ ...arrivals.get(number) || [], { message, at: Date.now() } ]);
  });
  await consumer.ready();

  const sent = [];
  for (let number = 0; number < MESSAGES; number++) {
    const message = sample.message(TOPIC, number);
    if (level(number) > 0) {
      message.delayTimeLevel = level(number);
    }
    const at = Date.now();
    const answer = await producer.send(message);
    sent.push({ at, answeredAt: Date.now(), queue: Number(answer.messageQueue.queueId) });
    checks.same('delay.as-sent', `message ${number} status`, 'SEND_OK', answer.sendStatus);
  }
  await clients.until(60_000, () => arrivals.size === MESSAGES);
  // A second copy would come with the first.
  await clients.sleep(1_000);
  await consumer.close();
  sent.forEach((send, number) => examine(number, send, arrivals.get(number) || []));
  if (checks.clean()) {
    checks.ok('delay.each-once', `messages=${MESSAGES}`);
    checks.ok('delay.as-sent', `messages=${MESSAGES}`);
    checks.ok('delay.in-time', `levels=${DELAYS_MS.length - 1}`);
  }
};

function examine(number, send, found) {
  const who = `message ${number} `;
  if (!checks.same('delay.each-once', who + 'deliveries', 1, found.length)) {
    return;
  }
  const [ { message, at } ] = found;
  sample.matches('delay.as-sent', TOPIC, number, message);
  checks.same('delay.as-sent', who + 'queue', send.queue, message.queueId);
  checks.same('delay.as-sent', who + 'level', level(number), message.delayTimeLevel);
  const delay = DELAYS_MS[level(number)];
  if (at - send.at < delay || at - send.answeredAt > delay + LATE_MS) {
    checks.fail('delay.in-time', `${who}came after ${at - send.at} ms instead of ${delay}`);
  }
}
