/** What a node tells Prometheus. Counted here and there, shown by the health server. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';

export class NodeMetrics {
  readonly registry = new Registry();
  readonly connections = new Gauge({
    name: 'collective_node_connections',
    help: 'Bulk connections that are open',
    registers: [this.registry],
  });
  readonly puts = new Counter({
    name: 'collective_node_puts_total',
    help: 'Chunks put, by how it ended',
    labelNames: ['result'] as const,
    registers: [this.registry],
  });
  readonly gets = new Counter({
    name: 'collective_node_gets_total',
    help: 'Reads of chunks, by how they ended',
    labelNames: ['result'] as const,
    registers: [this.registry],
  });
  readonly putBytes = new Counter({
    name: 'collective_node_put_bytes_total',
    help: 'Stored bytes of chunks that were put here',
    registers: [this.registry],
  });
  readonly getBytes = new Counter({
    name: 'collective_node_get_bytes_total',
    help: 'Stored bytes sent to readers',
    registers: [this.registry],
  });
  readonly forwards = new Counter({
    name: 'collective_node_forwards_total',
    help: 'Chunks sent on to other replicas, by how it ended',
    labelNames: ['result'] as const,
    registers: [this.registry],
  });
  readonly bufferedBytes = new Gauge({
    name: 'collective_node_buffered_bytes',
    help: 'Bytes of puts held in memory, by who sent them',
    labelNames: ['from'] as const,
    registers: [this.registry],
  });
  readonly syncSeconds = new Histogram({
    name: 'collective_node_sync_seconds',
    help: 'How long it took to make chunks stable',
    buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
    registers: [this.registry],
  });

  /** Facts of the store are asked for when somebody looks. */
  watchStore(store: ChunkStore): void {
    const registers = [this.registry];
    const gauge = (name: string, help: string, read: () => number): void => {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      });
    };
    gauge('collective_node_chunks', 'Chunks on this disk', () => store.stats().chunkCount);
    gauge('collective_node_capacity_bytes', 'What the owner gives', () => store.stats().capacityBytes);
    gauge('collective_node_used_bytes', 'Used by segments', () => store.stats().usedBytes);
    gauge('collective_node_free_bytes', 'May still be written above the reserve', () => store.stats().freeBytes);
    gauge('collective_node_unstable_bytes', 'Written and not yet synced', () => store.stats().unstableBytes);
  }
}
