/** A node without a coordinator as a process of its own; what it must know comes from the parent. */
import { type ScratchNodeOptions, startScratchNode } from '@collective/node/server/scratch-node';
import type { BulkTarget } from '@collective/protocol/bulk/connection';

process.once('message', async (options: ScratchNodeOptions) => {
  const node = await startScratchNode(options);
  process.on('message', (routes: readonly BulkTarget[]) => node.setRoutes(routes));
  process.once('disconnect', () => void node[Symbol.asyncDispose]().then(() => process.exit(0)));
  process.send?.(node.target);
});
