import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMode, parseModeChange } from './mode.ts';
import { modeText } from './output/entry-view.ts';

const changes: { change: string; from: number; to: number; directory?: boolean }[] = [
  { change: '640', from: 0o777, to: 0o640 },
  { change: '4755', from: 0o644, to: 0o4755 },
  { change: 'u+x', from: 0o644, to: 0o744 },
  { change: 'go-w', from: 0o666, to: 0o644 },
  { change: 'a=r', from: 0o777, to: 0o444 },
  { change: '+x', from: 0o644, to: 0o755 },
  { change: 'u=rwX,go=rX', from: 0o600, to: 0o644 },
  { change: 'u=rwX,go=rX', from: 0o600, to: 0o755, directory: true },
  { change: 'g=u', from: 0o750, to: 0o770 },
  { change: 'u+s', from: 0o755, to: 0o4755 },
  { change: '+t', from: 0o777, to: 0o1777 },
  { change: 'o=', from: 0o777, to: 0o770 },
  { change: 'u-s', from: 0o4755, to: 0o755 },
];

for (const { change, from, to, directory = false } of changes) {
  test(`chmod ${change} turns ${from.toString(8)} of a ${directory ? 'directory' : 'file'} into ${to.toString(8)}`, () => {
    assert.equal(parseModeChange(change)(from, directory).toString(8), to.toString(8));
  });
}

for (const bad of ['', '888', '12345', 'u+z', 'x+r', 'u', 'rwx', 'u+x,']) {
  test(`'${bad}' is refused as a mode`, () => {
    assert.throws(() => parseModeChange(bad), { code: 'invalid_argument' });
  });
}

test('mkdir takes octal modes only', () => {
  assert.equal(parseMode('0750'), 0o750);
  assert.throws(() => parseMode('u+x'), { code: 'invalid_argument' });
});

test('modes are shown as ls shows them', () => {
  assert.equal(modeText({ type: 'directory', mode: 0o1777 }), 'drwxrwxrwt');
  assert.equal(modeText({ type: 'file', mode: 0o4644 }), '-rwSr--r--');
  assert.equal(modeText({ type: 'symlink', mode: 0o777 }), 'lrwxrwxrwx');
});
