// `npm run cluster:up -- [--nodes N] [--fresh]`: the lab's cluster on this machine, three nodes by default. One that runs
// already is kept when it fits, unless it should be fresh.

import { parseArgs } from 'node:util';
import { ensureCluster, howToReach } from './cluster.ts';

const { values } = parseArgs({
  options: { nodes: { type: 'string', default: '3' }, fresh: { type: 'boolean', default: false } },
});
const startMs = performance.now();
const say = (line: string): void =>
  console.log(`${((performance.now() - startMs) / 1_000).toFixed(0).padStart(4)} s  ${line}`);
await ensureCluster(say, { nodes: Number(values.nodes), fresh: values.fresh });
say(`ready; ${howToReach()}`);
