/** Jobs that do too much or too little, put in on purpose (`breaks.ts`): each changes what one kind of order does. */
import { type ChunkId, chunkIdFromBytes, type NodeName } from '@collective/base/ids';
import type { Engine } from '@collective/coordinator/engine/engine';
import type { ChunkResult, NodeOrders } from '@collective/coordinator/jobs/node-orders';
import { bytesOf } from '@collective/coordinator/tables/table';
import { CHUNKS, GARBAGE } from '@collective/coordinator/tables/tables';

export interface OrderedParts {
  readonly orders: NodeOrders;
  /** Those that no judge sees. */
  readonly unseen: NodeOrders;
  readonly engine: Engine;
  defer(act: () => void): void;
}

const NEVER = new AbortController().signal;

/** What a node shows and no row names is gone at once: also what a client has just put and not committed yet. Contents must show it. */
export function forgettingOrphans({ orders, unseen, engine }: OrderedParts): NodeOrders {
  return {
    ...orders,
    listChunks: async (node, after, limit, signal) => {
      const page = await orders.listChunks(node, after, limit, signal);
      const unnamed = await engine.run(
        (tx) => {
          tx.need(page.chunks.map((chunk) => CHUNKS.key(chunk)));
          return page.chunks.filter((chunk) => tx.get(CHUNKS, chunk) === undefined);
        },
        { durability: 'written', signal },
      );
      if (unnamed.length > 0) await unseen.forgetChunks(node, unnamed, signal);
      return page;
    },
  };
}

/** What became garbage is gone at once: also where the commit that made it so may yet be lost with the power. */
export function forgettingGarbage({ orders, engine, defer }: OrderedParts): NodeOrders {
  engine.watch(GARBAGE, (key, { condemned }) => {
    const chunk = chunkIdFromBytes(bytesOf(key.slice(GARBAGE.prefix.length)));
    if (!condemned) defer(() => void forgetEverywhere(orders, engine, chunk).catch(() => undefined));
  });
  return orders;
}

async function forgetEverywhere(orders: NodeOrders, engine: Engine, chunk: ChunkId): Promise<void> {
  const row = await engine.run((tx) => tx.get(CHUNKS, chunk), { durability: 'written' });
  for (const { node } of row?.replicas ?? []) await orders.forgetChunks(node as NodeName, [chunk], NEVER);
}

/** Says of every copy that it is whole, and reads none. */
export function readingNothing({ orders, engine }: OrderedParts): NodeOrders {
  return {
    ...orders,
    verifyChunks: (node, chunks, signal) =>
      engine.run(
        (tx) => {
          tx.need(chunks.map((chunk) => CHUNKS.key(chunk)));
          return chunks.map((chunk): ChunkResult => {
            const row = tx.get(CHUNKS, chunk);
            const replica = row?.replicas.find((each) => each.node === node);
            if (row === undefined || replica === undefined)
              return { chunk, failure: { code: 'chunk_missing', message: 'no row names it there' } };
            return { chunk, digest: row.digest, storedLength: row.storedLength, replica: { ...replica, node } };
          });
        },
        { durability: 'written', signal },
      ),
  };
}
