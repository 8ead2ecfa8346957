import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withLongSpellings } from './spellings.ts';

const cases: { name: string; argv: string; read: string }[] = [
  { name: 'find conditions with one dash', argv: 'find / -name *.raw -type f', read: 'find / --name *.raw --type f' },
  {
    name: 'also behind flags of all commands',
    argv: '--context a find / -name x',
    read: '--context a find / --name x',
  },
  { name: 'a context called like a command', argv: '--context find ls -name', read: '--context find ls -name' },
  { name: 'nothing after two dashes', argv: 'find -- -name', read: 'find -- -name' },
  { name: 'chmod takes bits away from all', argv: 'chmod -x /run', read: 'chmod a-x /run' },
  { name: 'the recursive flag of chmod stays one', argv: 'chmod -R -w /a', read: 'chmod -R a-w /a' },
  { name: 'other commands are left alone', argv: 'ls -name -x', read: 'ls -name -x' },
  { name: 'help of a verb', argv: 'help config use-context', read: 'config use-context --help' },
  { name: 'help of what is no command', argv: 'help nosuch', read: 'nosuch' },
  { name: 'help alone', argv: 'help', read: 'help' },
  { name: 'nothing', argv: '', read: '' },
];

for (const { name, argv, read } of cases) {
  test(`spellings: ${name}`, () => {
    assert.deepEqual(withLongSpellings(argv.split(' ')), read.split(' '));
  });
}
