'use strict';
// Loaded by a node that was started ahead, before its program is there: waits, then takes over arguments and
// environment. What loads the program afterwards is node itself, as it does without us.
const fs = require('fs');

// A third of a short program's time is the first use of its output: done here, ahead.
process.stdout.write('');
process.stderr.write('');

{
  const chunk = Buffer.allocUnsafe(65536);
  const chunks = [];
  for (let count; (count = fs.readSync(3, chunk)) > 0; ) chunks.push(Buffer.from(chunk.subarray(0, count)));
  fs.closeSync(3);
  const [count = '0', ...texts] = Buffer.concat(chunks).toString().split('\0').slice(0, -1);
  const args = texts.slice(0, Number(count));
  process.argv.push(...args);
  process.env.NODE_OPTIONS = process.env.NODE_OPTIONS.replace(` --require ${__filename}`, '');
  for (const text of texts.slice(Number(count))) {
    const at = text.indexOf('=');
    process.env[text.slice(0, at)] = text.slice(at + 1);
  }
  delete require.cache[__filename];
}
