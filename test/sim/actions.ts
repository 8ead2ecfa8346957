/**
 * What simulated clients do: each action as data, how it is done through the SDK, and what it means in the model. The steps of
 * the model follow the operations that the SDK sends: a call by path that looks a node up and then changes it takes effect at
 * two moments, and the path may have changed hands between them.
 */
import { CollectiveError } from '@collective/base/errors';
import type { Attributes, FileHandle, Files, MutationOptions } from '@collective/client';
import type { Answer, AnsweredAttributes } from './model-answers.ts';
import * as model from './model-files.ts';
import type { ModelOperation, Step, Touch } from './model-operation.ts';

export type Action =
  | { readonly do: 'mkdir'; readonly path: string; readonly mode: number }
  | { readonly do: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly do: 'store';
      readonly path: string;
      readonly bytes: Buffer;
      readonly replace: boolean;
      readonly mode?: number;
    }
  | {
      readonly do: 'create';
      readonly path: string;
      readonly mode: number;
      readonly exclusive: boolean;
      readonly handle: string;
    }
  | { readonly do: 'open'; readonly path: string; readonly handle: string }
  | { readonly do: 'write'; readonly handle: string; readonly offset: number; readonly bytes: Buffer }
  | { readonly do: 'append'; readonly handle: string; readonly bytes: Buffer }
  | { readonly do: 'read'; readonly handle: string; readonly offset: number; readonly length: number }
  | { readonly do: 'truncate'; readonly handle: string; readonly size: number }
  | { readonly do: 'attributes'; readonly handle: string }
  | { readonly do: 'sync'; readonly handle: string }
  | { readonly do: 'close'; readonly handle: string }
  | { readonly do: 'lstat'; readonly path: string }
  | { readonly do: 'list'; readonly path: string }
  | { readonly do: 'remove'; readonly path: string }
  | {
      readonly do: 'rename';
      readonly from: string;
      readonly to: string;
      readonly mode: 'replace' | 'no-replace' | 'exchange';
    }
  | { readonly do: 'link'; readonly existing: string; readonly path: string }
  | { readonly do: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly do: 'resize'; readonly path: string; readonly size: number }
  | { readonly do: 'readlink'; readonly path: string }
  | { readonly do: 'getXattr'; readonly path: string; readonly name: string }
  | {
      readonly do: 'setXattr';
      readonly path: string;
      readonly name: string;
      readonly value: string;
      readonly mode: 'any' | 'create' | 'replace';
    }
  | { readonly do: 'listXattrs'; readonly path: string }
  | { readonly do: 'removeXattr'; readonly path: string; readonly name: string };

export type Durability = 'written' | 'stable';

/** Those whose success shows that the coordinator has made a change now: an open may find its file, a sync only waits. */
const CHANGES: readonly Action['do'][] = [
  'mkdir',
  'symlink',
  'store',
  'write',
  'append',
  'truncate',
  'remove',
  'rename',
  'link',
  'chmod',
  'resize',
  'setXattr',
  'removeXattr',
];

/** They need room, or may cross a border. */
const MAY_BE_REFUSED: readonly Action['do'][] = [
  'mkdir',
  'symlink',
  'store',
  'create',
  'write',
  'append',
  'rename',
  'link',
];

export function showAction(action: Action): string {
  const parts = Object.entries(action).map(([key, value]) => {
    if (key === 'do') return String(value);
    if (key === 'mode' && typeof value === 'number') return `mode=0${value.toString(8)}`;
    return Buffer.isBuffer(value) ? `bytes=${value.length}` : `${key}=${String(value)}`;
  });
  return parts.join(' ');
}

// ---- in the model ----

export function toModel(
  action: Action,
  id: string,
  client: string,
  cached: boolean,
  durability: Durability,
  hasRealms = false,
): ModelOperation {
  const { steps, reads } = stepsOf(action, id, durability);
  return {
    id,
    client,
    text: showAction(action),
    steps,
    reads,
    cached,
    written: durability === 'written',
    mayBeRefused: hasRealms && MAY_BE_REFUSED.includes(action.do),
    passesGate: CHANGES.includes(action.do),
    syncs: action.do === 'sync',
    // A rename of a file onto itself writes nothing.
    endsLog: action.do === 'sync' || (action.do !== 'rename' && CHANGES.includes(action.do)),
    touches: (fs) => touchedBy(action, fs),
  };
}

/** Names, folders whose list changes or is read, and nodes. */
function touchedBy(action: Action, fs: model.FileSystem): Touch[] {
  const touches: Touch[] = [];
  const add = (key: string, how: Touch['how']): void => {
    touches.push({ key, how });
  };
  const name = (path: string, how: 'read' | 'write', node: 'read' | 'write' = how): void => {
    add(`name ${path}`, how);
    const found = model.lookup(fs, path);
    if (typeof found !== 'string') add(found.id, node);
  };
  const entry = (path: string): void => {
    name(path, 'write');
    add(`list ${path.slice(0, path.lastIndexOf('/'))}`, 'add');
  };
  switch (action.do) {
    case 'mkdir':
    case 'symlink':
    case 'store':
    case 'remove':
      entry(action.path);
      break;
    case 'create':
      entry(action.path);
      add(`handle ${action.handle}`, 'write');
      break;
    case 'open':
      name(action.path, 'read', 'write');
      add(`handle ${action.handle}`, 'write');
      break;
    case 'rename':
      entry(action.from);
      entry(action.to);
      break;
    case 'link':
      name(action.existing, 'read', 'write');
      entry(action.path);
      break;
    case 'list':
      add(`list ${folderKey(action.path)}`, 'read');
      break;
    case 'close':
      add(`handle ${action.handle}`, 'write');
      add(fs.handles.get(action.handle) ?? '', 'write');
      break;
    case 'write':
    case 'append':
    case 'truncate':
    case 'sync':
    case 'read':
    case 'attributes':
      add(`handle ${action.handle}`, 'read');
      add(fs.handles.get(action.handle) ?? '', action.do === 'read' || action.do === 'attributes' ? 'read' : 'write');
      break;
    case 'chmod':
    case 'resize':
    case 'setXattr':
    case 'removeXattr':
      name(action.path, 'read', 'write');
      break;
    case 'lstat':
    case 'readlink':
    case 'getXattr':
    case 'listXattrs':
      name(action.path, 'read');
      // The entries of a folder count in its attributes.
      add(`list ${folderKey(action.path)}`, 'read');
      break;
  }
  return touches;
}

function folderKey(path: string): string {
  return path === '/' ? '' : path;
}

/** More than any run needs. */
const OPEN_TRIES = 3;

interface Steps {
  readonly steps: readonly Step[];
  /** Which steps only read. */
  readonly reads: readonly boolean[];
}

const change = (...steps: Step[]): Steps => ({ steps, reads: steps.map((_, i) => i < steps.length - 1) });
const look = (...steps: Step[]): Steps => ({ steps, reads: steps.map(() => true) });

function stepsOf(action: Action, id: string, durability: Durability): Steps {
  switch (action.do) {
    case 'mkdir':
      return change((fs) => model.make(fs, action.path, model.newNode(id, 'directory', action.mode)));
    case 'symlink':
      return change((fs) =>
        model.make(fs, action.path, model.newNode(id, 'symlink', 0o777, { target: action.target })),
      );
    case 'store': {
      const content = model.overwrite({ size: 0, pieces: [] }, 0, action.bytes);
      const unsynced = durability === 'stable' ? [] : [{ size: content.size, pieces: [] }];
      const { path, replace, mode } = action;
      const steps: Step[] = [
        (fs) => {
          const found = model.lookup(fs, path);
          if (typeof found === 'string') return found === 'not_found' ? { fs, bound: '' } : model.fail(fs, found);
          if (!replace) return model.fail(fs, 'exists');
          if (found.type === 'directory') return model.fail(fs, 'is_directory');
          return found.type === 'file' ? { fs, bound: String(found.mode) } : model.fail(fs, 'invalid_argument');
        },
        (fs, oldMode) => {
          const doubtful = unsynced.length > 0 && fs.putBeforePowerLoss.has(id);
          const permissions = mode ?? (oldMode === '' ? 0o644 : Number(oldMode));
          const node = model.newNode(id, 'file', permissions, { content, unsynced, doubtful });
          const made = replace ? model.replaceFile(fs, path, node) : model.make(fs, path, node);
          if ('error' in made.expected || mode === undefined || made.expected.attributes?.mode === mode) return made;
          return { fs: made.fs, bound: id };
        },
        // What takes the place of an older file keeps its mode, and is changed after.
        (fs, bound) => model.setMode(fs, bound, mode ?? 0),
      ];
      return { steps, reads: [true, false, false] };
    }
    case 'create': {
      const { path, mode, exclusive, handle } = action;
      return opening(handle, exclusive ? undefined : path, (attempt) => (fs, found) => {
        if (found !== '') return { fs, bound: found };
        const node = model.newNode(attempt === 0 ? id : `${id}.${attempt}`, 'file', mode);
        const made = exclusive ? model.make(fs, path, node) : model.openOrMake(fs, path, node);
        return 'error' in made.expected ? made : { fs: made.fs, bound: made.expected.attributes?.id ?? '' };
      });
    }
    case 'open':
      return opening(
        action.handle,
        action.path,
        () => (fs, found) => (found === '' ? model.fail(fs, 'not_found') : { fs, bound: found }),
      );
    case 'write':
      return change(handleOf(action.handle), (fs, bound) =>
        model.write(fs, bound, action.offset, action.bytes, durability, id),
      );
    case 'append':
      return change(handleOf(action.handle), (fs, bound) =>
        model.write(fs, bound, 'end', action.bytes, durability, id),
      );
    case 'read':
      return look(handleOf(action.handle), (fs, bound) => model.read(fs, bound, action.offset, action.length));
    case 'truncate':
      return change(handleOf(action.handle), (fs, bound) => model.resize(fs, bound, action.size));
    case 'attributes':
      return look(handleOf(action.handle), model.attributes);
    case 'sync':
      return change(handleOf(action.handle), model.synced);
    case 'close':
      return change((fs) => ({ fs: model.closeHandle(fs, action.handle), expected: {} }));
    case 'lstat':
      return look((fs) => {
        const node = model.lookup(fs, action.path);
        return typeof node === 'string' ? model.fail(fs, node) : model.attributes(fs, node.id);
      });
    case 'list':
      return look((fs) => model.list(fs, action.path));
    case 'remove':
      return change(
        (fs) => {
          const node = model.lookup(fs, action.path);
          return typeof node === 'string' ? model.fail(fs, node) : { fs, bound: node.type };
        },
        (fs, type) => model.unlink(fs, action.path, type === 'directory'),
      );
    case 'rename':
      return change((fs) => model.rename(fs, action.from, action.to, action.mode));
    case 'link':
      return change(resolve(action.existing), (fs, bound) => model.linkNode(fs, bound, action.path));
    case 'chmod':
      return change(
        resolve(action.path),
        named((fs, bound) => model.setMode(fs, bound, action.mode)),
      );
    case 'resize':
      return change(
        resolve(action.path),
        named((fs, bound) => model.resize(fs, bound, action.size)),
      );
    case 'readlink':
      return look(resolve(action.path), named(model.readLink));
    case 'getXattr':
      return look(
        resolve(action.path),
        named((fs, bound) => model.getXattr(fs, bound, action.name)),
      );
    case 'setXattr':
      return change(
        resolve(action.path),
        named((fs, bound) => model.setXattr(fs, bound, action.name, action.value, action.mode)),
      );
    case 'listXattrs':
      return look(resolve(action.path), named(model.listXattrs));
    case 'removeXattr':
      return change(
        resolve(action.path),
        named((fs, bound) => model.setXattr(fs, bound, action.name, undefined, 'replace')),
      );
  }
}

/** Whoever found the node by its name, and has it not open, finds it no more when it has lost the last one meanwhile (M8). */
function named(act: (fs: model.FileSystem, bound: string) => model.Applied): Step {
  return (fs, bound) => (fs.nodes.get(bound)?.links === 0 ? model.fail(fs, 'stale') : act(fs, bound));
}

function resolve(path: string): Step {
  return (fs) => {
    const node = model.lookup(fs, path);
    return typeof node === 'string' ? model.fail(fs, node) : { fs, bound: node.id };
  };
}

/**
 * Looks the file up, makes it if need be, then tells the coordinator that it is open, from when on it outlives its last name
 * (M8). If it went before that, all begins again.
 */
function opening(handle: string, path: string | undefined, make: (attempt: number) => Step): Steps {
  const find: Step = (fs) => {
    if (path === undefined) return { fs, bound: '' };
    const found = model.lookup(fs, path);
    if (typeof found === 'string') return found === 'not_found' ? { fs, bound: '' } : model.fail(fs, found);
    return found.type === 'directory' ? model.fail(fs, 'is_directory') : { fs, bound: found.id };
  };
  const announce: Step = (fs, id) => (fs.nodes.has(id) ? model.withHandle(fs, handle, id) : { fs, bound: '' });
  const steps = Array.from({ length: OPEN_TRIES }, (_, attempt) => [find, make(attempt), announce]).flat();
  return { steps, reads: steps.map((step) => step === find) };
}

/** The client knows which node its handle means; closing it later changes nothing about that. */
function handleOf(handle: string): Step {
  return (fs) => ({ fs, bound: fs.handles.get(handle) ?? '' });
}

// ---- through the SDK ----

export interface Actor {
  readonly files: Files;
  readonly handles: Map<string, FileHandle>;
  readonly durability: Durability;
}

/** Does the action; whatever the SDK throws that is no CollectiveError is a defect and thrown on. */
export async function perform(actor: Actor, action: Action, signal: AbortSignal): Promise<Answer> {
  try {
    return await performOrThrow(actor, action, signal);
  } catch (thrown) {
    if (thrown instanceof CollectiveError) return { kind: 'error', code: thrown.code };
    throw thrown;
  }
}

async function performOrThrow(actor: Actor, action: Action, signal: AbortSignal): Promise<Answer> {
  const { files, handles } = actor;
  const options: MutationOptions = { durability: actor.durability, signal };
  const done: Answer = { kind: 'ok' };
  const opened = (name: string): FileHandle => {
    const handle = handles.get(name);
    if (handle === undefined) throw new Error(`The client has no open handle ${name}`);
    return handle;
  };
  switch (action.do) {
    case 'mkdir':
      return withAttributes(await files.mkdir(action.path, { ...options, mode: action.mode }));
    case 'symlink':
      return withAttributes(await files.symlink(action.target, action.path, options));
    case 'store': {
      const { replace, mode } = action;
      return withAttributes(await files.write(action.path, action.bytes, { ...options, replace, mode }));
    }
    case 'create': {
      const { mode, exclusive } = action;
      handles.set(
        action.handle,
        await files.open(action.path, { ...options, access: 'write', create: true, exclusive, mode }),
      );
      return done;
    }
    case 'open':
      handles.set(action.handle, await files.open(action.path, { ...options, access: 'write' }));
      return done;
    case 'write':
      await opened(action.handle).write(action.offset, action.bytes, options);
      return done;
    case 'append':
      return { kind: 'ok', offset: await opened(action.handle).append(action.bytes, options) };
    case 'read':
      return { kind: 'ok', bytes: await opened(action.handle).read(action.offset, action.length, { signal }) };
    case 'truncate':
      await opened(action.handle).truncate(action.size, options);
      return done;
    case 'attributes':
      return withAttributes(await opened(action.handle).attributes({ signal }));
    case 'sync':
      await opened(action.handle).sync({ signal });
      return done;
    case 'close': {
      const handle = opened(action.handle);
      handles.delete(action.handle);
      await handle.close();
      return done;
    }
    case 'lstat':
      return withAttributes(await files.lstat(action.path, { signal }));
    case 'list': {
      const names: string[] = [];
      for await (const entry of files.list(action.path, { signal, attributes: false })) names.push(entry.name);
      return { kind: 'ok', names: names.sort() };
    }
    case 'remove':
      await files.remove(action.path, options);
      return done;
    case 'rename':
      await files.rename(action.from, action.to, { ...options, mode: action.mode });
      return done;
    case 'link':
      return withAttributes(await files.link(action.existing, action.path, options));
    case 'chmod':
      return withAttributes(
        await files.setAttributes(action.path, { mode: action.mode }, { ...options, followLinks: false }),
      );
    case 'resize':
      return withAttributes(await files.truncate(action.path, action.size, options));
    case 'readlink':
      return { kind: 'ok', text: await files.readlink(action.path, { signal }) };
    case 'getXattr':
      return { kind: 'ok', text: (await files.getXattr(action.path, action.name, { signal })).toString() };
    case 'setXattr':
      await files.setXattr(action.path, action.name, Buffer.from(action.value), { ...options, mode: action.mode });
      return done;
    case 'listXattrs':
      return { kind: 'ok', names: (await files.listXattrs(action.path, { signal })).sort() };
    case 'removeXattr':
      await files.removeXattr(action.path, action.name, options);
      return done;
  }
}

function withAttributes(attributes: Attributes): Answer {
  return { kind: 'ok', attributes: answered(attributes) };
}

export function answered({ inode, type, mode, sizeBytes, links, entries }: Attributes): AnsweredAttributes {
  return { inode, type, mode, size: sizeBytes, links, entries };
}
