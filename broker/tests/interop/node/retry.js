// A handler that fails gets the message again after the level's delay, never before it, as often as the consumer
// allows; then the message is a dead letter. All that an application set comes back with it. The client has no way to
// choose the level, and a retried delivery fails only by an exception: what the handler returns is not looked at.
'use strict';

const checks = require('./checks');
const clients = require('./clients');
const sample = require('./sample');

const TOPIC = 'InteropNodeRetry';
const GROUP = 'interop-node-retry';
const MESSAGES = 12;
// Of the levels 3, 4, 5, ...: the first retry waits for level 3.
const DELAYS_MS = [ 10_000, 30_000, 60_000, 120_000 ];
// A busy machine, not a broker that forgets.
const LATE_MS = 15_000;

const succeeds = number => number % 3 === 0;
const failsAlways = number => number % 3 === 2;

module.exports = async retries => {
  const producer = await clients.producer('interop-node-retry');
  await clients.createTopic(producer, TOPIC, 4);
  await clients.introduce(producer, GROUP, TOPIC);
  const deliveries = new Map();
  let count = 0;
  const consumer = clients.consumer(GROUP, { maxReconsumeTimes: retries });
  consumer.subscribe(TOPIC, '*', async message => {
    const number = sample.numberOf(message);
    const delivery = { message, reconsumeTimes: message.reconsumeTimes, at: Date.now() };
    deliveries.set(number, [ ...deliveries.get(number) || [], delivery ]);
    count++;
    if (failsAlways(number) || !succeeds(number) && message.reconsumeTimes === 0) {
      throw new Error(`message ${number} is not wanted`);
    }
  });
  await consumer.ready();
  const numbers = Array.from({ length: MESSAGES }, (_, number) => number);
  for (const number of numbers) {
    await producer.send(sample.message(TOPIC, number));
  }
  const times = number => failsAlways(number) ? 1 + retries : succeeds(number) ? 1 : 2;
  const expected = numbers.reduce((sum, number) => sum + times(number), 0);
  const patience = DELAYS_MS.slice(0, retries).reduce((sum, delay) => sum + delay + LATE_MS, 60_000);
  await clients.until(patience, () => count >= expected);
  for (const number of numbers) {
    const found = deliveries.get(number) || [];
    if (checks.same('retry.deliveries', `message ${number} deliveries`, times(number), found.length)) {
      examine(number, found);
    }
  }
  if (checks.clean()) {
    checks.ok('retry.deliveries', `messages=${MESSAGES} deliveries=${expected}`);
    checks.ok('retry.delays', `retries=${retries}`);
    checks.ok('retry.properties', `messages=${MESSAGES}`);
  }
  await deadLetters(producer, numbers.filter(failsAlways), deliveries, retries);
  checks.same('retry.dead-letters', 'deliveries to the group afterwards', expected, count);
  await consumer.close();
};

function examine(number, found) {
  found.forEach(({ message, reconsumeTimes, at }, times) => {
    const which = `message ${number} delivery ${times} `;
    checks.same('retry.deliveries', which + 'reconsume times', times, reconsumeTimes);
    sample.matches('retry.properties', TOPIC, number, message);
    if (times > 0) {
      checks.same('retry.properties', which + 'RETRY_TOPIC', TOPIC, message.retryTopic);
      checks.same('retry.properties', which + 'ORIGIN_MESSAGE_ID', found[0].message.msgId, message.originMessageId);
      const delay = DELAYS_MS[times - 1];
      const waited = at - found[times - 1].at;
      if (waited < delay || waited > delay + LATE_MS) {
        checks.fail('retry.delays', `${which}came after ${waited} ms instead of ${delay}`);
      }
    }
  });
}

async function deadLetters(producer, expected, deliveries, retries) {
  const topic = `%DLQ%${GROUP}`;
  await clients.route(producer, topic);
  const found = [];
  const reader = clients.consumer(`${GROUP}-dead`);
  reader.subscribe(topic, '*', async message => { found.push(message); });
  await clients.until(60_000, () => found.length >= expected.length);
  // One too many would come with the others.
  await clients.sleep(1_000);
  await reader.close();
  for (const message of found) {
    const number = sample.numberOf(message);
    const who = `dead letter ${number} `;
    sample.matches('retry.dead-letters', topic, number, message);
    checks.same('retry.dead-letters', who + 'RETRY_TOPIC', TOPIC, message.retryTopic);
    checks.same('retry.dead-letters', who + 'ORIGIN_MESSAGE_ID', deliveries.get(number)[0].message.msgId,
      message.originMessageId);
    checks.same('retry.dead-letters', who + 'reconsume times', 1 + retries, message.reconsumeTimes);
  }
  const numbers = found.map(sample.numberOf).sort((a, b) => a - b);
  checks.that(numbers.join() === expected.join(), 'retry.dead-letters', `expected=${expected} found=${numbers}`);
}
