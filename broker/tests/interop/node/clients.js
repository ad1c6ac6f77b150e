// Makes clients as an application would, each member with an identity of its own.
'use strict';

const { Consumer, Producer } = require('ali-ons');

// It tells of every retry; only warnings and errors belong into the transcript, and off the verdict's stream.
const logger = { debug() {}, info() {}, warn: console.error, error: console.error };
let common;
let members = 0;

exports.use = nameSrv => {
  // The HTTP client would look up name servers at an address server; it is asked for and not used.
  common = { nameSrv, logger, clientIP: '127.0.0.1', httpclient: {} };
  // What a busy machine keeps a client from learning when it starts, it learns soon, not half a minute later.
  Object.assign(common, { pollNameServerInteval: 2_000, rebalanceInterval: 2_000 });
};

exports.producer = async producerGroup => {
  const producer = new Producer({ ...common, producerGroup, instanceName: `interop${process.pid}#${++members}` });
  producer.on('error', error => console.error('producer:', error.message));
  await producer.ready();
  return producer;
};

// Reads from the start. Subscriptions come afterwards; the client starts at once.
exports.consumer = (consumerGroup, options = {}) => {
  const consumer = new Consumer({
    ...common,
    consumerGroup,
    consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET',
    instanceName: `interop${process.pid}#${++members}`,
    ...options,
  });
  // A group that is new to a queue is an error event, and so is a handler that throws.
  consumer.on('error', error => console.error('consumer:', error.message));
  return consumer;
};

// The route of `topic`, which a name server may have a moment later.
exports.route = async (client, topic) => {
  const found = await exports.until(20_000, async () => {
    try {
      return await client._mqClient.getTopicRouteInfoFromNameServer(topic, 3_000);
    } catch (noRouteYet) {
      await exports.sleep(200);
      return null;
    }
  });
  if (!found) {
    throw new Error(`no route of ${topic}`);
  }
  return found;
};

// Creates `topic` on the broker that the default topic's route names, and waits for its own: the client sends to no topic
// that has none, so it never has one made by a first send.
exports.createTopic = async (producer, topic, queues) => {
  const route = await exports.route(producer, 'TBW102');
  const config = {
    topicName: topic,
    readQueueNums: queues,
    writeQueueNums: queues,
    perm: 6,
    topicFilterType: 'SINGLE_TAG',
    topicSysFlag: 0,
    order: false,
  };
  await producer._mqClient.createTopic(route.brokerDatas[0].brokerAddrs[0], 'TBW102', config, 3_000);
  await exports.route(producer, topic);
};

// Makes a group known before it is used: its retry topic exists and has a route, which a client that starts would
// otherwise learn half a minute later.
exports.introduce = async (producer, group, topic) => {
  const first = exports.consumer(group);
  first.subscribe(topic, '*', async () => { throw new Error('not yet'); });
  await first.ready();
  await exports.route(producer, `%RETRY%${group}`);
  await first.close();
};

// The first truthy answer, or the last one when the time is up.
exports.until = async (limit, condition) => {
  const deadline = Date.now() + limit;
  for (;;) {
    const answer = await condition();
    if (answer || Date.now() >= deadline) {
      return answer;
    }
    await exports.sleep(20);
  }
};

exports.sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
