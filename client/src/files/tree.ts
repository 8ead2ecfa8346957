/** What goes through whole trees: walking and removing. */
import { CollectiveError } from '@collective/base/errors';
import { InodeType, type Attributes as WireAttributes } from '@collective/protocol/gen/session';
import type { MutationOptions, WalkEntry } from '../api.ts';
import { ByteBudget } from '../transfer/byte-budget.ts';
import { attributesOf } from './attributes.ts';
import { directoryPages } from './directory-pages.ts';
import { type FileContext, NEVER_ABORTED, settingsOf } from './file-context.ts';
import { childPath } from './path.ts';
import type { ResolvedEntry } from './path-resolver.ts';

const REMOVE_AT_ONCE = 256;
/** A name that changes its inode under our eyes is looked at again so often. */
const REMOVE_TRIES_MAX = 10;

export async function* walkTree(
  context: FileContext,
  start: { readonly path: string; readonly name: string; readonly attributes: WireAttributes },
  options: { readonly depthMax: number; readonly signal: AbortSignal | undefined },
  depth = 0,
): AsyncGenerator<WalkEntry, void, undefined> {
  const { path, name } = start;
  const attributes = attributesOf(start.attributes);
  yield { name, path, inode: attributes.inode, type: attributes.type, attributes, depth };
  if (attributes.type !== 'directory' || depth >= options.depthMax) return;
  const listing = { withAttributes: true, signal: options.signal };
  for await (const page of directoryPages(context.session, attributes.inode, listing)) {
    for (const entry of page) {
      if (entry.attributes === undefined) continue;
      const entryName = entry.name.toString();
      const child = { path: childPath(path, entryName), name: entryName, attributes: entry.attributes };
      yield* walkTree(context, child, options, depth + 1);
    }
  }
}

type RemoveOptions = MutationOptions & { readonly recursive?: boolean; readonly permanent?: boolean };

export async function removeEntry(
  context: FileContext,
  path: string,
  options: RemoveOptions & { readonly force?: boolean },
): Promise<void> {
  for (let tries = 1; ; tries++) {
    const entry = await lookUp(context, path, options);
    if (entry?.existing === undefined) {
      if (options.force) return;
      throw new CollectiveError('not_found', `Remove ${path}`);
    }
    const { parent, name, existing } = entry;
    try {
      await removeNode(context, parent.inode, Buffer.from(name), existing, options);
      return;
    } catch (error) {
      const changed = error instanceof CollectiveError && error.code === 'stale';
      if (!changed || tries >= REMOVE_TRIES_MAX) throw error;
    }
  }
}

async function lookUp(
  context: FileContext,
  path: string,
  options: { readonly force?: boolean; readonly signal?: AbortSignal },
): Promise<ResolvedEntry | undefined> {
  try {
    return await context.paths.entry(path, { followLast: false, signal: options.signal });
  } catch (error) {
    if (options.force && error instanceof CollectiveError && error.code === 'not_found') return undefined;
    throw error;
  }
}

async function removeNode(
  context: FileContext,
  parent: number,
  name: Buffer,
  node: { readonly inode: number; readonly type: InodeType },
  options: RemoveOptions,
): Promise<void> {
  const directory = node.type === InodeType.DIRECTORY;
  const held = context.open.hold(node.inode);
  const value = { parent, name, directory, held, expectedInode: node.inode, permanent: options.permanent ?? false };
  for (let tries = 1; ; tries++) {
    try {
      await context.session.call({ $case: 'unlink', value }, settingsOf(options));
      return;
    } catch (error) {
      const isFull = error instanceof CollectiveError && error.code === 'not_empty';
      if (!isFull || !options.recursive || tries >= REMOVE_TRIES_MAX) throw error;
    }
    await emptyDirectory(context, node.inode, options);
  }
}

/** Others may remove, too: what is gone already is no failure. So many at once that one sync of the log serves many. */
async function emptyDirectory(context: FileContext, inode: number, options: RemoveOptions): Promise<void> {
  const settings = { ...options, recursive: true };
  const signal = options.signal ?? NEVER_ABORTED;
  const atOnce = new ByteBudget(REMOVE_AT_ONCE);
  let failure: unknown;
  const removeOne = async (entry: { name: Buffer; inode: number; type: InodeType }): Promise<void> => {
    try {
      await removeNode(context, inode, entry.name, entry, settings);
    } catch (error) {
      if (!isGone(error)) failure ??= error;
    }
  };
  for await (const page of directoryPages(context.session, inode, { withAttributes: false, signal })) {
    for (const entry of page) {
      if (failure !== undefined) break;
      if (entry.type === InodeType.DIRECTORY) {
        // One way down at a time: each has as many at once as this one.
        await removeOne(entry);
        continue;
      }
      await atOnce.acquire(1, signal);
      void removeOne(entry).finally(() => atOnce.release(1));
    }
    if (failure !== undefined) break;
  }
  await atOnce.acquire(REMOVE_AT_ONCE, NEVER_ABORTED);
  if (failure !== undefined) throw failure;
}

function isGone(error: unknown): boolean {
  return error instanceof CollectiveError && (error.code === 'not_found' || error.code === 'stale');
}
