// A message that is a function of its topic and number: whoever receives it can make it again and compare.
'use strict';

const { Message } = require('ali-ons');
const checks = require('./checks');

const TAGS = [ 'TagA', '标签', 'étiquette', 'Ярлык' ];

const tag = number => TAGS[number % TAGS.length];
const keys = number => [ `key-${number}`, `键-${number}` ];

// Now and then long enough for the client to compress it.
const body = number => Buffer.from(`message ${number}: grüße, 你好, \0 `.repeat(1 + (number % 9 === 0 ? 400 : number % 40)));

const properties = number => ({ number: String(number), größe: `мера ${number}`, 'a=b&c': `="{}[]\\ \t,;:${number}` });

exports.message = (topic, number) => {
  const message = new Message(topic, tag(number), body(number));
  message.keys = keys(number);
  Object.assign(message.properties, properties(number));
  return message;
};

exports.numberOf = message => Number(message.properties.number);

// Every part that an application set; a message shows the topic it was sent to, also when it comes again.
exports.matches = (check, topic, number, message) => {
  const who = `message ${number} `;
  checks.same(check, who + 'topic', topic, message.topic);
  checks.same(check, who + 'tags', tag(number), message.tags);
  checks.same(check, who + 'keys', keys(number).join(' '), message.keys);
  checks.same(check, who + 'body', body(number), message.body);
  for (const [ name, value ] of Object.entries(properties(number))) {
    checks.same(check, `${who}property ${name}`, value, message.properties[name]);
  }
};
