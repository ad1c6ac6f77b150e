// The machine-readable verdict: `ok NAME DETAIL` or `FAILED NAME DETAIL`, one line each.
'use strict';

const FAILURES_SHOWN = 20;
let failures = 0;

exports.ok = (name, detail) => console.log(`ok ${name} ${detail}`);

exports.fail = (name, detail) => {
  if (failures++ < FAILURES_SHOWN) {
    console.log(`FAILED ${name} ${detail}`);
  }
};

// Says nothing while the values agree: a scenario compares many and reports once.
exports.same = (name, what, expected, found) => {
  const same = Buffer.isBuffer(expected) ? Buffer.isBuffer(found) && expected.equals(found) : expected === found;
  if (!same) {
    exports.fail(name, `${what}: expected ${shown(expected)}, found ${shown(found)}`);
  }
  return same;
};

exports.that = (holds, name, detail) => (holds ? exports.ok : exports.fail)(name, detail);

exports.clean = () => failures === 0;

exports.finish = () => {
  console.log(`end failures=${failures}`);
  return failures === 0 ? 0 : 1;
};

function shown(value) {
  return Buffer.isBuffer(value) ? `${value.length} bytes` : String(value);
}
