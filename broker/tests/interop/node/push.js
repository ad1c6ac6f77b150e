// Sends half before a push consumer starts and half while it runs: it gets each message once and as it was sent, from
// where the answer said it is, and the next member of the group goes on behind it.
'use strict';

const checks = require('./checks');
const clients = require('./clients');
const sample = require('./sample');

const TOPIC = 'InteropNodePush';
const GROUP = 'interop-node-push';
const AT_ONCE = 20;
const REST = 16;

module.exports = async count => {
  const producer = await clients.producer('interop-node-push');
  await clients.createTopic(producer, TOPIC, 4);
  const answers = new Map();
  await send(producer, answers, 0, count >> 1);

  const received = new Map();
  let deliveries = 0;
  const consumer = clients.consumer(GROUP, { parallelConsumeLimit: 4 });
  consumer.subscribe(TOPIC, '*', async message => {
    received.set(sample.numberOf(message), message);
    deliveries++;
  });
  await consumer.ready();
  await send(producer, answers, count >> 1, count);
  await clients.until(120_000, () => received.size === count);
  checks.that(received.size === count && deliveries === count, 'push.each-once',
    `distinct=${received.size} deliveries=${deliveries}`);
  compare(received, answers, count);
  await consumer.close();

  const rest = new Map();
  let again = 0;
  const next = clients.consumer(GROUP);
  next.subscribe(TOPIC, '*', async message => {
    rest.set(sample.numberOf(message), message);
    again++;
  });
  await next.ready();
  await send(producer, answers, count, count + REST);
  await clients.until(60_000, () => rest.size >= REST);
  await next.close();
  checks.that(rest.size === REST && again === REST, 'push.goes-on-behind-commit',
    `distinct=${rest.size} deliveries=${again}`);
};

async function send(producer, answers, from, to) {
  for (let start = from; start < to; start += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, to - start) }, (_, at) => start + at);
    await Promise.all(numbers.map(async number => {
      const answer = await producer.send(sample.message(TOPIC, number));
      checks.same('push.as-sent', `message ${number} status`, 'SEND_OK', answer.sendStatus);
      answers.set(number, answer);
    }));
  }
}

function compare(received, answers, count) {
  const queues = new Map();
  for (let number = 0; number < count; number++) {
    const message = received.get(number);
    if (!message) {
      checks.fail('push.as-sent', `message ${number} never came`);
      continue;
    }
    const who = `message ${number} `;
    const answer = answers.get(number);
    sample.matches('push.as-sent', TOPIC, number, message);
    checks.same('push.as-sent', who + 'reconsume times', 0, message.reconsumeTimes);
    checks.same('push.as-sent', who + 'id', answer.msgId, message.msgId);
    checks.same('push.as-sent', who + 'queue', Number(answer.messageQueue.queueId), message.queueId);
    checks.same('push.as-sent', who + 'queue offset', answer.queueOffset, message.queueOffset);
    queues.set(message.queueId, [ ...queues.get(message.queueId) || [], message.queueOffset ]);
  }
  // One queue's offsets are 0, 1, 2, ... with nothing between.
  for (const [ queue, offsets ] of queues) {
    checks.same('push.as-sent', `offsets of queue ${queue}`, offsets.length - 1, Math.max(...offsets));
  }
  if (checks.clean()) {
    checks.ok('push.as-sent', `messages=${count} queues=${queues.size}`);
  }
}
