// Order as far as this client has it: a sharding key keeps a sender's messages in one queue, and a member hands them
// over one after the other. It knows no queue locks and no suspended queues; a message that fails goes to the retry
// topic, and a queue that changes hands while both members run may be consumed by both.
'use strict';

const { createHash } = require('crypto');
const checks = require('./checks');
const clients = require('./clients');
const sample = require('./sample');

const TOPIC = 'InteropNodeOrder';
const GROUP = 'interop-node-order';
const QUEUES = 4;

module.exports = async count => {
  const producer = await clients.producer('interop-node-order');
  await clients.createTopic(producer, TOPIC, QUEUES);
  const keys = shardingKeys();
  const half = count >> 1;
  const last = new Map();
  const seen = new Set();
  let inside = 0;
  const member = async () => {
    const consumer = clients.consumer(GROUP);
    consumer.subscribe(TOPIC, '*', async message => {
      const number = sample.numberOf(message);
      checks.same('orderly.one-at-a-time', `others beside message ${number}`, 0, inside++);
      await clients.sleep(1);
      inside--;
      sample.matches('orderly.in-order', TOPIC, number, message);
      const key = message.shardingKey;
      checks.same('orderly.in-order', `key of message ${number}`, keys[number % keys.length], key);
      const previous = last.has(key) ? last.get(key) : { number: (number % keys.length) - keys.length, offset: -1 };
      checks.same('orderly.in-order', `number behind ${previous.number}`, previous.number + keys.length, number);
      checks.same('orderly.in-order', `offset of message ${number}`, previous.offset + 1, message.queueOffset);
      last.set(key, { number, offset: message.queueOffset });
      seen.add(number);
    });
    await consumer.ready();
    return consumer;
  };

  await send(producer, keys, 0, half);
  const first = await member();
  await clients.until(60_000, () => seen.size === half);
  await first.close();
  await send(producer, keys, half, count);
  const second = await member();
  await clients.until(60_000, () => seen.size === count);
  await second.close();
  checks.that(seen.size === count, 'orderly.complete', `sent=${count} consumed=${seen.size}`);
  if (checks.clean()) {
    checks.ok('orderly.in-order', `keys=${keys.length}`);
    checks.ok('orderly.one-at-a-time', `messages=${count}`);
  }
};

async function send(producer, keys, from, to) {
  for (let number = from; number < to; number++) {
    const message = sample.message(TOPIC, number);
    message.shardingKey = keys[number % keys.length];
    await producer.send(message);
  }
}

// A key for every queue but the first: one whose hash is 0 counts as none, and its messages go to all queues.
function shardingKeys() {
  const keys = new Map();
  for (let candidate = 0; keys.size < QUEUES - 1; candidate++) {
    const key = `order-${candidate}`;
    const queue = createHash('md5').update(key).digest().readUInt32BE() % QUEUES;
    if (queue !== 0 && !keys.has(queue)) {
      keys.set(queue, key);
    }
  }
  return [ ...keys.values() ];
}
