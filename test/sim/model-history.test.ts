// The judge itself is judged here: each kind of wrong answer must be refused, and what is allowed must pass.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Action, toModel } from './actions.ts';
import type { Answer } from './model-answers.ts';
import { allSynced, emptyFileSystem, nodesLostPower } from './model-files.ts';
import { History, Unexplained } from './model-history.ts';

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

  /** By a client that caches. */
  caching(client: string, action: Action, answer: Answer, durability: 'written' | 'stable' = 'stable'): void {
    this.answer(this.call(client, action, { cached: true, durability }), answer, durability === 'stable');
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

test('what was made and lost its name before it was open is made again, and may be refused then', () => {
  const story = new Story();
  const open = story.call('a', { do: 'create', path: '/f', mode: 0o644, exclusive: true, handle: 'h' });
  story.done('b', list, names('f'));
  story.done('b', create('/g', 'g'));
  story.done('b', { do: 'rename', from: '/g', to: '/f', mode: 'replace' });
  story.answer(open, error('exists'));
  refuses(() => story.done('a', read('h'), bytes('')));
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

/** What one client had been answered as written when the power was lost; `alive` caches, so the gate waits for it (M6). */
function afterPowerLoss(): Story {
  const story = new Story();
  story.done('a', mkdir('/stable'));
  story.done('dead', mkdir('/w1'), OK, 'written');
  story.done('dead', mkdir('/w2'), OK, 'written');
  story.caching('alive', mkdir('/w3'), OK, 'written');
  story.history.lostPower((client) => client !== 'dead');
  return story;
}

test('M4: a power loss takes written changes of dead clients from the end, never stable ones, and living clients make theirs again', () => {
  const build = (): Story => {
    const story = afterPowerLoss();
    story.done('c', mkdir('/after'));
    return story;
  };
  for (const allowed of [['w1', 'w2', 'w3'], ['w1', 'w3'], ['w3']])
    build().done('c', list, names('after', 'stable', ...allowed));
  for (const wrong of [['stable', 'w2', 'w3'], ['w3'], ['stable', 'w1', 'w2'], ['stable', 'w1']])
    refuses(() => build().done('c', list, names('after', ...wrong)));
});

test('M6: a lost change may be missed by whoever only reads until it was made again, then no more, and nobody changes anything before it', () => {
  const story = afterPowerLoss();
  story.done('c', list, names('stable'));
  story.done('c', list, names('stable', 'w3'));
  refuses(() => story.done('c', list, names('stable')));
  const own = afterPowerLoss();
  refuses(() => own.caching('alive', list, names('stable')));
  refuses(() => afterPowerLoss().done('c', mkdir('/w3')));
  afterPowerLoss().done('c', mkdir('/w3'), error('exists'));
  const passed = afterPowerLoss();
  passed.done('c', mkdir('/x'));
  refuses(() => passed.done('c', list, names('stable', 'x')));
});

test('M4, M6: after one lease others may be before the lost change, and its client must be told if it ends otherwise', () => {
  const build = (): Story => {
    const story = afterPowerLoss();
    story.history.gateMayHaveOpened();
    return story;
  };
  const found = (story: Story, ...folders: string[]): void =>
    story.history.observe((fs) => {
      const entries = [...(fs.nodes.get('root')?.entries ?? [])].map(([name, id]) => `${name} ${id}`);
      return entries.sort().join() === folders.join() ? fs : `found ${entries.join()}`;
    });
  const before = build();
  before.done('c', mkdir('/w3'));
  before.history.replayDiffered('alive');
  found(before, 'stable o1', 'w3 o5');
  const untold = build();
  untold.done('c', mkdir('/w3'));
  refuses(() => found(untold, 'stable o1', 'w3 o5'), /nobody was told/);
  const behind = build();
  behind.done('c', mkdir('/w3'), error('exists'));
  found(behind, 'stable o1', 'w3 o4');
  refuses(() => found(build(), 'stable o1'));
  refuses(() => afterPowerLoss().history.replayDiffered('alive'), /nobody was before it/);
});

test('M4: an answer of the coordinator that lost its power still counts when it comes late, and what it tells may be lost', () => {
  const build = (): Story => {
    const story = new Story();
    const late = story.call('alive', mkdir('/w'), { cached: true, durability: 'written' });
    story.history.lostPower(() => true);
    story.answer(late, OK, false);
    return story;
  };
  const lost = build();
  lost.done('c', list, names());
  lost.done('c', mkdir('/w'), error('exists'));
  refuses(() => build().done('c', mkdir('/w')));
});

test('M4: a power loss may take the second change of a call and leave the first', () => {
  const store = (mode?: number): Action => ({ do: 'store', path: '/f', bytes: Buffer.from('x'), replace: true, mode });
  const build = (): Story => {
    const story = new Story();
    story.done('a', store(0o600));
    story.done('dead', store(0o640), OK, 'written');
    story.history.lostPower(() => false);
    return story;
  };
  const stat = (mode: number, inode: number): Answer => ({
    kind: 'ok',
    attributes: { inode, type: 'file', mode, size: 1, links: 1, entries: 0 },
  });
  const lstat: Action = { do: 'lstat', path: '/f' };
  for (const mode of [0o600, 0o640]) build().done('c', lstat, stat(mode, 7));
  refuses(() => build().done('c', lstat, stat(0o644, 7)));
});

test('M4: what a client owed when it died comes again or not at all', () => {
  const story = afterPowerLoss();
  story.history.clientDied('alive');
  story.done('c', mkdir('/w3'));
  const kept = afterPowerLoss();
  kept.history.clientDied('alive');
  kept.done('c', mkdir('/w3'), error('exists'));
});

test('a stable acknowledgement makes everything before it stable', () => {
  const story = new Story();
  story.done('dead', mkdir('/w1'), OK, 'written');
  story.done('a', mkdir('/s'));
  story.history.lostPower(() => false);
  refuses(() => story.done('c', list, names('s')));
});

test('M4: a stable answer that wrote nothing makes nothing stable but what it rests on', () => {
  const build = (look: Action, answer: Answer): Story => {
    const story = new Story();
    story.done('dead', mkdir('/w1'), OK, 'written');
    story.done('a', look, answer);
    story.history.lostPower(() => false);
    return story;
  };
  const gone: Action = { do: 'lstat', path: '/w1' };
  for (const found of [names(), names('w1')])
    build({ do: 'lstat', path: '/x' }, error('not_found')).done('c', list, found);
  const attributes = { inode: 5, type: 'directory', mode: 0o755, size: 0, links: 2, entries: 0 };
  for (const story of [
    build(list, names('w1')),
    build(gone, { kind: 'ok', attributes }),
    build(mkdir('/w1'), error('exists')),
  ])
    refuses(() => story.done('c', list, names()));
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

test('D3, M4: what was put before nodes lost power and is told again after it may be gone too', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'));
  story.done('a', write('h', 0, 'old!'));
  story.caching('a', write('h', 0, 'new!'), OK, 'written');
  story.history.lostPower(() => true);
  story.history.change((fs) => nodesLostPower(fs, story.history.mayComeYet));
  story.history.lostPower(() => true);
  story.done('a', read('h'), bytes('old!'));
  refuses(() => story.done('a', read('h'), bytes('bad!')));
});

test('D3, M4: a sync is not undone where disks have shown since that nothing was left to do, and what others lose goes alone', () => {
  for (const otherFirst of [false, true]) {
    const story = new Story();
    story.done('a', create('/f', 'h'), OK, 'written');
    story.done('a', write('h', 0, 'old'), OK, 'written');
    story.history.allStable();
    story.call('c', list);
    const sync = story.call('a', { do: 'sync', handle: 'h' });
    if (otherFirst) story.caching('b', mkdir('/x'), OK, 'written');
    story.answer(sync, OK);
    if (!otherFirst) story.caching('b', mkdir('/x'), OK, 'written');
    story.history.change(allSynced);
    story.history.lostPower((client) => client === 'b');
    story.done('b', list, names('f', 'x'));
  }
});

test('D3, M4: what was synced stays so when the coordinator loses its power after the nodes', () => {
  const story = new Story();
  story.done('a', create('/f', 'h'), OK, 'written');
  story.done('a', write('h', 0, 'old'), OK, 'written');
  story.done('a', write('h', 0, 'new'), OK, 'written');
  story.history.allStable();
  story.call('c', list);
  story.done('a', { do: 'sync', handle: 'h' });
  story.caching('b', mkdir('/x'), OK, 'written');
  story.history.change((fs) => nodesLostPower(fs, []));
  story.history.lostPower(() => true);
  story.done('a', read('h'), bytes('new'));
  refuses(() => story.done('a', read('h'), bytes('old')));
});

test('M8: a file that lost its last name after it was looked up is found no more, though others have it open', () => {
  const lost = (): [Story, string] => {
    const story = new Story();
    story.done('a', create('/f', 'h'));
    const id = story.call('b', { do: 'chmod', path: '/f', mode: 0o600 });
    story.done('a', { do: 'remove', path: '/f' });
    return [story, id];
  };
  const [gone, late] = lost();
  gone.answer(late, error('stale'));
  const [early, before] = lost();
  early.answer(before, OK);
  const named = new Story();
  named.done('a', create('/f', 'h'));
  refuses(() => named.done('b', { do: 'chmod', path: '/f', mode: 0o600 }, error('stale')));
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
