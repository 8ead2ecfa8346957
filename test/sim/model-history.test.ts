// The judge itself is judged here: each kind of wrong answer must be refused, and what is allowed must pass.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Action, toModel } from './actions.ts';
import { emptyFileSystem, nodesLostPower } from './model-files.ts';
import { type Answer, History, Unexplained } from './model-history.ts';

const OK: Answer = { kind: 'ok' };
const error = (code: string): Answer => ({ kind: 'error', code });
const names = (...found: string[]): Answer => ({ kind: 'ok', names: found });
const bytes = (text: string): Answer => ({ kind: 'ok', bytes: Buffer.from(text) });
const mkdir = (path: string): Action => ({ do: 'mkdir', path, mode: 0o755 });
const list: Action = { do: 'list', path: '/' };
const create = (path: string, handle: string): Action => ({
  do: 'create',
  path,
  mode: 0o644,
  exclusive: false,
  handle,
});
const write = (handle: string, offset: number, text: string): Action => ({
  do: 'write',
  handle,
  offset,
  bytes: Buffer.from(text),
});
const read = (handle: string): Action => ({ do: 'read', handle, offset: 0, length: 100 });

class Story {
  readonly history = new History(emptyFileSystem());
  #number = 0;

  call(client: string, action: Action, options: { cached?: boolean; durability?: 'written' | 'stable' } = {}): string {
    const id = `o${++this.#number}`;
    this.history.invoke(toModel(action, id, client, options.cached ?? false, options.durability ?? 'stable'));
    return id;
  }

  done(client: string, action: Action, answer: Answer = OK, durability: 'written' | 'stable' = 'stable'): void {
    const id = this.call(client, action, { durability });
    this.history.respond(id, answer, durability === 'stable');
  }

  answer(id: string, answer: Answer, stable = true): void {
    this.history.respond(id, answer, stable);
  }
}

function refuses(body: () => void, what: RegExp = /./): void {
  assert.throws(body, (thrown) => thrown instanceof Unexplained && what.test(thrown.message));
}

test('M5: EEXIST for a mkdir that nobody else made is refused; for one that somebody else made it passes', () => {
  const story = new Story();
  const first = story.call('a', mkdir('/x'));
  refuses(() => story.answer(first, error('exists')));
  const again = new Story();
  const mine = again.call('a', mkdir('/x'));
  again.done('b', mkdir('/x'));
  again.answer(mine, error('exists'));
  refuses(() => again.done('a', mkdir('/x')));
});

test('two that run at once may take effect in either order, but not in both', () => {
  const story = new Story();
  const a = story.call('a', { do: 'rename', from: '/x', to: '/y', mode: 'replace' });
  const b = story.call('b', mkdir('/x'));
  story.answer(b, OK);
  story.answer(a, OK);
  story.done('c', list, names('y'));
  refuses(() => story.done('c', list, names('x')));
});

test('an answered change is seen by everybody afterwards', () => {
  const story = new Story();
  story.done('a', mkdir('/x'));
  refuses(() => story.done('b', list, names()));
});

test('a call without an answer may or may not have taken effect, once seen it stays', () => {
  const story = new Story();
  story.call('a', mkdir('/x'));
  story.done('b', list, names());
  story.done('b', list, names('x'));
  refuses(() => story.done('b', list, names()));
});

test('M7: a caching client may be answered from before a change that was not acknowledged when it asked, never from before one that was', () => {
  const story = new Story();
  story.done('a', mkdir('/x'));
  const change = story.call('a', mkdir('/y'));
  const cached = story.call('b', list, { cached: true });
  story.done('c', list, names('x', 'y'));
  story.answer(cached, names('x'));
  story.answer(change, OK);
  const late = story.call('b', list, { cached: true });
  refuses(() => story.answer(late, names('x')));
});

test('wrong bytes, lengths and sizes are refused', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'));
  story.done('a', write('h', 0, 'hello'));
  story.done('a', write('h', 8, 'x'));
  story.done('a', read('h'), bytes('hello\0\0\0x'));
  refuses(() => story.done('a', read('h'), bytes('hello\0\0\0y')), /offset 8/);
  refuses(() => story.done('a', read('h'), bytes('hello')));
  const attributes = { inode: 5, type: 'file', mode: 0o644, size: 9, links: 1, entries: 0 };
  story.done('a', { do: 'lstat', path: '/f' }, { kind: 'ok', attributes });
  refuses(() => story.done('a', { do: 'lstat', path: '/f' }, { kind: 'ok', attributes: { ...attributes, size: 8 } }));
  refuses(
    () => story.done('a', { do: 'lstat', path: '/f' }, { kind: 'ok', attributes: { ...attributes, inode: 6 } }),
    /inode 5/,
  );
});

test('M2a: an inode number that another node has is refused', () => {
  const story = new Story();
  const made = { type: 'directory', mode: 0o755, size: 0, links: 2, entries: 0 };
  story.done('a', mkdir('/x'), { kind: 'ok', attributes: { ...made, inode: 2 } });
  refuses(() => story.done('a', mkdir('/y'), { kind: 'ok', attributes: { ...made, inode: 2 } }), /which o1 has/);
});

test('a path may change hands between lookup and change, but an operation by handle follows the node', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'));
  const chmod = story.call('b', { do: 'chmod', path: '/f', mode: 0o600 });
  story.done('a', { do: 'rename', from: '/f', to: '/g', mode: 'replace' });
  story.answer(chmod, OK);
  story.done(
    'a',
    { do: 'attributes', handle: 'h' },
    { kind: 'ok', attributes: { inode: 5, type: 'file', mode: 0o600, size: 0, links: 1, entries: 0 } },
  );
});

test('an unlinked file is read through its handle until the last one closes', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'));
  story.done('a', write('h', 0, 'kept'));
  story.done('b', { do: 'remove', path: '/f' });
  story.done('a', read('h'), bytes('kept'));
  assert.equal(story.history.possible.nodes.size, 2);
  story.done('a', { do: 'close', handle: 'h' });
  assert.equal(story.history.possible.nodes.size, 1);
});

test('M4: a power loss takes written changes of dead clients from the end, never stable ones, and living clients make theirs again', () => {
  const build = (): Story => {
    const story = new Story();
    story.done('a', mkdir('/stable'));
    story.done('dead', mkdir('/w1'), OK, 'written');
    story.done('dead', mkdir('/w2'), OK, 'written');
    story.done('alive', mkdir('/w3'), OK, 'written');
    story.history.lostPower((client) => client !== 'dead');
    return story;
  };
  for (const allowed of [names('stable', 'w1', 'w2', 'w3'), names('stable', 'w1', 'w3'), names('stable', 'w3')])
    build().done('c', list, allowed);
  for (const wrong of [names('stable', 'w2', 'w3'), names('w3'), names('stable', 'w1', 'w2')])
    refuses(() => build().done('c', list, wrong));
});

test('a stable acknowledgement makes everything before it stable', () => {
  const story = new Story();
  story.done('dead', mkdir('/w1'), OK, 'written');
  story.done('a', mkdir('/s'));
  story.history.lostPower(() => false);
  refuses(() => story.done('c', list, names('s')));
});

test('D3: after a power loss of nodes bytes that were only written may be those of before, others may not', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'));
  story.done('a', write('h', 0, 'old!'));
  story.done('a', write('h', 0, 'new!'), OK, 'written');
  story.done('a', read('h'), bytes('new!'));
  refuses(() => story.done('a', read('h'), bytes('old!')));
  story.history.change((fs) => nodesLostPower(fs, []));
  story.done('a', read('h'), bytes('old!'));
  refuses(() => story.done('a', read('h'), bytes('bad!')));
});

test('observing the whole settles what was open', () => {
  const story = new Story();
  story.call('a', mkdir('/x'));
  story.call('b', mkdir('/y'));
  story.history.observe((fs) => (fs.nodes.size === 2 && fs.nodes.has('o2') ? fs : 'another number of nodes'));
  assert.equal(story.history.open, 0);
  story.done('c', list, names('y'));
  refuses(
    () => story.history.observe((fs) => (fs.nodes.size === 3 ? fs : 'another number of nodes')),
    /another number/,
  );
});
