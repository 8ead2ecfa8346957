/** What a node tells Prometheus. Counted here and there, shown by the health server. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ChunkStore } from '../chunk-store/chunk-store.ts';
import type { FirstReading } from '../scrub/first-reading.ts';
import type { Scrubber } from '../scrub/scrubber.ts';

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
    this.#gauge('chunks', 'Chunks on this disk', () => store.stats().chunkCount);
    this.#gauge('capacity_bytes', 'What the owner gives', () => store.stats().capacityBytes);
    this.#gauge('used_bytes', 'Used by segments', () => store.stats().usedBytes);
    this.#gauge('dead_bytes', 'Of it what compaction will give back', () => store.stats().deadBytes);
    this.#gauge('free_bytes', 'May still be written above the reserve', () => store.stats().freeBytes);
    this.#gauge('unstable_bytes', 'Written and not yet synced', () => store.stats().unstableBytes);
    this.#gauge('damaged_chunks', 'Found damaged and not yet replaced or forgotten', () => store.damaged.length);
    this.#counter(
      'damaged_found_total',
      'Chunks found damaged since the disk was first used',
      () => store.stats().damagedFound,
    );
    this.#counter('forgotten_chunks_total', 'Chunks that were forgotten', () => store.stats().forgottenChunks);
    this.#counter(
      'compacted_segments_total',
      'Segments that compaction took away',
      () => store.stats().compactedSegments,
    );
    this.#counter('compacted_bytes_total', 'Bytes that compaction copied', () => store.stats().compactedBytes);
  }

  watchScrub(
    scrubber: Pick<Scrubber, 'verifiedBytes' | 'rememberedBytes' | 'report'>,
    firstReading: Pick<FirstReading, 'verifiedBytes'>,
  ): void {
    const share = (): number => {
      const { verifiedBytes, totalBytes } = scrubber.report();
      return totalBytes === 0 ? 0 : verifiedBytes / totalBytes;
    };
    this.#counter('scrub_verified_bytes_total', 'Bytes that the scrub read and compared', () => scrubber.verifiedBytes);
    this.#counter(
      'scrub_remembered_bytes_total',
      "Of them, read on a file system that cannot read past the kernel's memory",
      () => scrubber.rememberedBytes,
    );
    this.#counter(
      'scrub_first_read_bytes_total',
      'Bytes that were read and compared soon after they were written, beside the scrub',
      () => firstReading.verifiedBytes,
    );
    this.#gauge('scrub_pass_share', 'Of the pass under way what is done; 0 between passes', share);
    this.#gauge(
      'scrub_last_ended_seconds',
      'When the last whole pass ended, in seconds since 1970; 0: none has yet',
      () => scrubber.report().lastEnded?.seconds ?? 0,
    );
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name: `collective_node_${name}`,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** Of a number that somebody else counts. */
  #counter(name: string, help: string, read: () => number): void {
    new Counter({
      name: `collective_node_${name}`,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }
}
