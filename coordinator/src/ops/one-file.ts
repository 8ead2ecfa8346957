/** For tests of content: a member without a trash, with one empty file, and short ways to write it and to look at what its rows say. */
import type { BlockPage } from '@collective/protocol/gen/session';
import { commitOp, type Piece, ROOT } from '../session/scripted-operations.ts';
import { type ScriptedClient, SessionWorld, type WorldOptions } from '../session/session-harness.ts';
import { prefixEnd } from '../tables/table.ts';
import type { BLOCKS, CHUNKS, DOOMED, GARBAGE, UNDER_REPLICATED, UNFIRM, UNSTABLE } from '../tables/tables.ts';

export async function blocks(client: ScriptedClient, inode: number, first = 0): Promise<BlockPage> {
  return client.call({ $case: 'readBlocks', value: { inode, first, count: 64 } }, 'blocks');
}

export function commit(
  client: ScriptedClient,
  inode: number,
  pieces: readonly Piece[],
  more: Parameters<typeof commitOp>[2] = {},
) {
  return client.call(commitOp(inode, pieces, more), 'committed');
}

export const count = (
  world: SessionWorld,
  table:
    | typeof GARBAGE
    | typeof CHUNKS
    | typeof BLOCKS
    | typeof DOOMED
    | typeof UNSTABLE
    | typeof UNDER_REPLICATED
    | typeof UNFIRM,
): Promise<number> =>
  world.finish(
    world.core.engine.run(
      (tx) => tx.scan(table as typeof GARBAGE, table.prefix, prefixEnd(table.prefix), 10_000).length,
    ),
  );

export async function usedBytes(world: SessionWorld, path = '/'): Promise<number> {
  const realms = await world.finish(world.core.listRealms());
  return realms.find((realm) => realm.path === path)?.usedBytes ?? -1;
}

export async function start(options: WorldOptions = {}): Promise<{
  world: SessionWorld;
  client: ScriptedClient;
  inode: number;
  [Symbol.asyncDispose](): Promise<void>;
}> {
  const world = await SessionWorld.start({ trash: false, ...options });
  const client = await world.client();
  const { inode } = await client.make(ROOT, 'f');
  return { world, client, inode, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

export function numbersFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
