/**
 * Reads chunks from where the index says that they lie, and believes nothing that it reads. Reads copy nothing: what lies on the
 * disk is what is sent.
 *
 * Records move while they are read (compaction) and go away (forget). A read that fails looks again where its chunk lies: it
 * goes on there, or ends with `chunk_missing`. What it gives is of one content, whatever happened between two pieces.
 */
import { assert } from '@collective/base/assert';
import type { DiskFile } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { ChunkId } from '@collective/base/ids';
import { FRAME_BYTES } from '@collective/base/limits';
import { FRAME_HEADER_BYTES } from '@collective/protocol/bulk/frame';
import type { ChunkIndex, ChunkPlace } from './chunk-index.ts';
import { READ_FRAMES_MAX, type StoredChunk } from './chunk-store.ts';
import { type ChunkHeader, plainStoredLength, RECORD_BYTES_MAX, recordBytesOf, recordHeaderBytes } from './record.ts';
import type { SegmentReaders } from './segment-readers.ts';
import { verifyFrameAt, verifyHeader, verifyRecord } from './verify-record.ts';

/** What a disk answers for bytes that it cannot give any more. Any other error says nothing about the bytes. */
const LOST_BYTES_ERRNOS: ReadonlySet<string> = new Set(['EIO', 'EUCLEAN', 'EBADMSG']);
const DAMAGE_CODES: ReadonlySet<string> = new Set(['store_damaged', 'frame_invalid', 'version_too_new']);

export interface RecordReaderOptions {
  readonly index: ChunkIndex;
  readonly readers: SegmentReaders;
  /** Uuid, for messages. */
  readonly disk: string;
  /** The record that counts for this chunk is damaged. */
  onDamaged(chunk: ChunkId): void;
}

/** Memory of whole records for the next ones: fresh memory for each 4 MiB costs as much as to read and compare them. */
const WHOLE_KEPT_MAX = 2;
/** Smaller records get memory of their own. */
const WHOLE_FROM_BYTES = RECORD_BYTES_MAX / 2;

/** A header that was compared, and where. */
interface Proof {
  readonly place: ChunkPlace;
  readonly header: ChunkHeader;
}

export class RecordReader {
  readonly #options: RecordReaderOptions;
  readonly #wholeKept: Buffer[] = [];

  constructor(options: RecordReaderOptions) {
    this.#options = options;
  }

  async describe(chunk: ChunkId): Promise<StoredChunk> {
    return await this.#atRecord(chunk, (file, place) => this.#readHeader(file, chunk, place));
  }

  async verify(chunk: ChunkId): Promise<StoredChunk> {
    return await this.#atRecord(chunk, async (file, place) => {
      const bytes = recordBytesOf(place);
      const isLarge = bytes >= WHOLE_FROM_BYTES;
      const memory = isLarge
        ? (this.#wholeKept.pop() ?? Buffer.allocUnsafeSlow(RECORD_BYTES_MAX))
        : Buffer.allocUnsafe(bytes);
      try {
        const record = memory.subarray(0, bytes);
        await this.#fill(file, chunk, place.offset, record);
        return this.#judge(chunk, 'its record is damaged', () => verifyRecord(record, { chunk, ...place }));
      } finally {
        if (isLarge && this.#wholeKept.length < WHOLE_KEPT_MAX) this.#wholeKept.push(memory);
      }
    });
  }

  async *read(
    chunk: ChunkId,
    offset: number,
    length: number,
    take: (bytes: number) => Buffer,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { rawLength } = this.#placeOf(chunk);
    if (offset < 0 || length < 1 || offset + length > rawLength)
      throw new CollectiveError('range', `Read ${length} bytes at ${offset} of chunk ${chunk}: it has ${rawLength}`);
    const first = Math.floor(offset / FRAME_BYTES);
    const last = Math.floor((offset + length - 1) / FRAME_BYTES);
    let proof: Proof | undefined;
    for (let frame = first; frame <= last; frame += READ_FRAMES_MAX) {
      const to = Math.min(last, frame + READ_FRAMES_MAX - 1);
      yield await this.#atRecord(chunk, async (file, place) => {
        const [next, bytes] = await this.#readFrames(file, chunk, place, proof, frame, to, take);
        if (proof !== undefined && !next.header.digest.equals(proof.header.digest)) throw missing(chunk);
        proof = next;
        return bytes;
      });
    }
  }

  /** Frames `from` to `to`, and the proof that they are this chunk's: frames do not name it, the header does. */
  async #readFrames(
    file: DiskFile,
    chunk: ChunkId,
    place: ChunkPlace,
    proof: Proof | undefined,
    from: number,
    to: number,
    take: (bytes: number) => Buffer,
  ): Promise<[Proof, Buffer]> {
    const { rawLength, storedLength } = proof?.header ?? place;
    if (place.rawLength !== rawLength || place.storedLength !== storedLength) throw missing(chunk);
    const isProven = proof?.place.segment === place.segment && proof.place.offset === place.offset;
    const isPlain = storedLength === plainStoredLength(rawLength);
    const known = isProven ? proof?.header : isPlain ? undefined : await this.#readHeader(file, chunk, place);
    const span = frameSpan(place, known, from, to);
    const bytes = take(span.to - span.from);
    // Both are waited for: the memory must not be written to after this has failed.
    const [header, filled] = await Promise.allSettled([
      known ?? this.#readHeader(file, chunk, place),
      this.#fill(file, chunk, place.offset + span.from, bytes),
    ]);
    if (header.status === 'rejected') throw header.reason;
    if (filled.status === 'rejected') throw filled.reason;
    let at = 0;
    for (let frame = from; frame <= to; frame++)
      at += this.#judge(
        chunk,
        `frame ${frame} is damaged`,
        () => FRAME_HEADER_BYTES + verifyFrameAt(bytes, at, frame).storedLength,
      );
    if (at !== bytes.length) throw this.#corrupt(chunk, `its frames ${from} to ${to} do not end where they should`);
    return [{ place, header: header.value }, bytes];
  }

  /** Acts on the chunk's record where it lies now, again if it was moved meanwhile. */
  async #atRecord<T>(chunk: ChunkId, act: (file: DiskFile, place: ChunkPlace) => Promise<T>): Promise<T> {
    const { index, readers, onDamaged } = this.#options;
    for (;;) {
      const place = this.#placeOf(chunk);
      try {
        return await readers.use(place.segment, (file) => act(file, place));
      } catch (error) {
        const now = index.get(chunk);
        if (now?.segment !== place.segment || now.offset !== place.offset) continue;
        const failure = this.#isGone(error) ? this.#corrupt(chunk, 'its segment is gone', error) : error;
        if (failure instanceof CollectiveError && failure.code === 'chunk_corrupt') onDamaged(chunk);
        throw failure;
      }
    }
  }

  async #readHeader(file: DiskFile, chunk: ChunkId, place: ChunkPlace): Promise<ChunkHeader> {
    const bytes = Buffer.allocUnsafe(recordHeaderBytes(Math.ceil(place.rawLength / FRAME_BYTES)));
    await this.#fill(file, chunk, place.offset, bytes);
    return this.#judge(chunk, 'its record header is damaged', () => verifyHeader(bytes, { chunk, ...place }));
  }

  async #fill(file: DiskFile, chunk: ChunkId, offset: number, into: Buffer): Promise<void> {
    let present: number;
    try {
      present = await file.readInto(offset, into);
    } catch (error) {
      throw isLostBytes(error) ? this.#corrupt(chunk, 'the disk does not give its bytes', error) : error;
    }
    if (present < into.length) throw this.#corrupt(chunk, `its segment ends ${into.length - present} bytes too early`);
  }

  #judge<T>(chunk: ChunkId, what: string, verify: () => T): T {
    try {
      return verify();
    } catch (cause) {
      if (cause instanceof CollectiveError && DAMAGE_CODES.has(cause.code)) throw this.#corrupt(chunk, what, cause);
      throw cause;
    }
  }

  #isGone(error: unknown): boolean {
    return error instanceof CollectiveError && error.code === 'not_found';
  }

  #placeOf(chunk: ChunkId): ChunkPlace {
    const place = this.#options.index.get(chunk);
    if (place === undefined) throw missing(chunk);
    return place;
  }

  #corrupt(chunk: ChunkId, what: string, cause?: unknown): CollectiveError {
    return new CollectiveError('chunk_corrupt', `Read chunk ${chunk} on disk ${this.#options.disk}: ${what}`, {
      cause,
    });
  }
}

function missing(chunk: ChunkId): CollectiveError {
  return new CollectiveError('chunk_missing', `Read chunk ${chunk}: it is not on this disk`);
}

export function isLostBytes(error: unknown): boolean {
  const cause = error instanceof CollectiveError ? error.cause : undefined;
  return LOST_BYTES_ERRNOS.has((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
}

/** Where frames `first` to `last` lie in their record. Without a header none of the frames is compressed. */
function frameSpan(
  place: ChunkPlace,
  header: ChunkHeader | undefined,
  first: number,
  last: number,
): { from: number; to: number } {
  const frameCount = Math.ceil(place.rawLength / FRAME_BYTES);
  const start = recordHeaderBytes(frameCount);
  if (place.storedLength === plainStoredLength(place.rawLength)) {
    const stride = FRAME_HEADER_BYTES + FRAME_BYTES;
    return { from: start + first * stride, to: Math.min(start + (last + 1) * stride, start + place.storedLength) };
  }
  assert(header !== undefined, 'compressed frames are found by the header');
  const lengthOf = (lengths: readonly number[]): number =>
    lengths.reduce((sum, length) => sum + FRAME_HEADER_BYTES + length, 0);
  const from = start + lengthOf(header.frameLengths.slice(0, first));
  return { from, to: from + lengthOf(header.frameLengths.slice(first, last + 1)) };
}
