/**
 * The chunks whose bytes were found damaged on this disk: told to the coordinator until each is replaced or forgotten. Kept in a
 * small file, so that a restart does not make the disk look whole until the next scrub. What the file loses is found again.
 */
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import type { ChunkId } from '@collective/base/ids';
import type { Log } from '@collective/base/log';

/** A disk with more damage is beyond repair chunk by chunk; the rest is found again when these are repaired. */
export const DAMAGED_MAX = 1_000;
const DAMAGED_FILE = 'damaged.json';
const FORMAT = 1;

export class DamagedChunks {
  readonly #disk: Disk;
  readonly #log: Log;
  readonly #chunks: Set<ChunkId>;
  #found: number;
  #list: readonly ChunkId[] | undefined;
  #changed = false;
  #saving: Promise<void> | undefined;

  /** `isHere`: what the file says of other chunks is old. */
  static async open(disk: Disk, log: Log, isHere: (chunk: ChunkId) => boolean): Promise<DamagedChunks> {
    const { found, chunks } = await readFile(disk, log);
    return new DamagedChunks(disk, log, found, chunks.filter(isHere).slice(0, DAMAGED_MAX));
  }

  private constructor(disk: Disk, log: Log, found: number, chunks: readonly ChunkId[]) {
    this.#disk = disk;
    this.#log = log;
    this.#found = found;
    this.#chunks = new Set(chunks);
  }

  /** Since the disk was first used. */
  get found(): number {
    return this.#found;
  }

  get list(): readonly ChunkId[] {
    this.#list ??= [...this.#chunks];
    return this.#list;
  }

  has(chunk: ChunkId): boolean {
    return this.#chunks.has(chunk);
  }

  add(chunk: ChunkId): void {
    if (this.#chunks.has(chunk)) return;
    this.#log.error({ chunk, damaged: this.#chunks.size + 1 }, 'chunk damaged');
    if (this.#chunks.size >= DAMAGED_MAX) return;
    this.#chunks.add(chunk);
    this.#found++;
    this.#save();
  }

  /** True if it was damaged. */
  delete(chunk: ChunkId): boolean {
    const was = this.#chunks.delete(chunk);
    if (was) this.#save();
    return was;
  }

  async close(): Promise<void> {
    await this.#saving;
  }

  #save(): void {
    this.#list = undefined;
    this.#changed = true;
    this.#saving ??= this.#saveAll().finally(() => {
      this.#saving = undefined;
    });
  }

  async #saveAll(): Promise<void> {
    while (this.#changed) {
      this.#changed = false;
      const content = `${JSON.stringify({ format: FORMAT, found: this.#found, chunks: this.list })}\n`;
      try {
        await replaceWhole(this.#disk, DAMAGED_FILE, Buffer.from(content));
      } catch (error) {
        this.#log.warn({ err: error }, 'list of damaged chunks not kept');
        return;
      }
    }
  }
}

/** A list that cannot be read is none: the next scrub makes it again. */
async function readFile(disk: Disk, log: Log): Promise<{ found: number; chunks: ChunkId[] }> {
  const text = await readWhole(disk, DAMAGED_FILE);
  if (text === undefined) return { found: 0, chunks: [] };
  try {
    const { format, found, chunks } = JSON.parse(text.toString('utf8')) as Record<string, unknown>;
    if (format === FORMAT && Array.isArray(chunks))
      return { found: Number.isSafeInteger(found) ? Number(found) : 0, chunks: chunks.filter(isChunkId) };
    log.warn({ file: DAMAGED_FILE, format }, 'list of damaged chunks not understood');
  } catch (error) {
    log.warn({ file: DAMAGED_FILE, err: error }, 'list of damaged chunks not readable');
  }
  return { found: 0, chunks: [] };
}

function isChunkId(value: unknown): value is ChunkId {
  return typeof value === 'string' && /^[0-9a-f]{32}$/.test(value);
}
