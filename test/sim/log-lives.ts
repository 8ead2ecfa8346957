/**
 * The log alone through many lives of its process: each life opens the log, checks what it finds against the model,
 * appends, and ends at some disk operation by SIGKILL, power loss or a failed sync. The model knows of each position what
 * was appended last and how far the log had reported *written* and *stable*; what the next life finds must lie between.
 */
import assert from 'node:assert/strict';
import { type DiskOperation, type DiskVerdict, FakeDisk } from '@collective/base/disk/fake-disk';
import { FakePlatter } from '@collective/base/disk/fake-platter';
import { FakeClock, type ProcessClock } from '@collective/base/fake-clock';
import type { LogPosition } from '@collective/base/ids';
import { type Random, randomBelow, randomUnit, SeededRandom } from '@collective/base/random';
import { FileLog } from '@collective/coordinator/log/file-log';

const FOLDER = 'log';
const SEGMENT_BYTES = 2_000;

export interface LogLivesOptions {
  readonly seed: number;
  readonly lives: number;
  /** Stops the first life before this disk operation; else each life draws its own end. */
  readonly stopFirstAt?: number;
  readonly end?: 'kill' | 'power';
  readonly ignoreSyncs?: boolean;
}

type LifeEnd = 'kill' | 'power' | 'sync fails, kill' | 'sync fails, power';

/** Runs all lives; throws at the first difference from the model. Answers how many disk operations the first life made. */
export async function runLogLives(options: LogLivesOptions): Promise<number> {
  const random = new SeededRandom(options.seed);
  const world = new FakeClock();
  const platter = new FakePlatter();
  const model = new LogModel();
  let firstLifeOperations = 0;
  for (let life = 1; life <= options.lives; life++) {
    platter.ignoreSyncs = options.ignoreSyncs === true && life === 1;
    const stopAt = life === 1 && options.stopFirstAt !== undefined ? options.stopFirstAt : randomBelow(random, 90);
    const end = (life === 1 ? options.end : undefined) ?? drawEnd(random);
    const clock = world.process();
    let operations = 0;
    const before = (operation: DiskOperation): DiskVerdict => {
      if (operation.kind === 'read') return 'go';
      const due = operations++ >= stopAt;
      if (!due) return 'go';
      if (end === 'kill' || end === 'power') return 'stop';
      return operation.kind === 'sync' ? 'fail' : 'go';
    };
    const disk = new FakeDisk({ platter, clock, random, before, latencyMs: () => randomUnit(random) * 3 });
    const outcome = await liveOnce({ world, clock, disk, random, model, life });
    if (life === 1) firstLifeOperations = operations;
    const power = end.endsWith('power');
    if (power) disk.powerLoss(random);
    else disk.kill();
    clock.end();
    if (outcome === 'failed' && randomBelow(random, 2) === 0) platter.evictCleanPages();
    model.endOfLife(power || outcome === 'failed' ? 'stable' : 'written');
  }
  return firstLifeOperations;
}

function drawEnd(random: Random): LifeEnd {
  const ends: LifeEnd[] = ['kill', 'power', 'sync fails, kill', 'sync fails, power'];
  return ends[randomBelow(random, ends.length)] ?? 'kill';
}

class LogModel {
  /** Payload of each position, as it was appended last. */
  readonly #payloads = new Map<number, string>();
  #last = 0;
  #written = 0;
  #stable = 0;
  #mustHave = 0;
  truncated = 0;

  /** What a fresh log shows becomes the truth; it must be consistent with what was promised. */
  found(records: { position: number; payload: string }[], last: number): void {
    assert.ok(last >= this.#mustHave, `the log ends at ${last}, but ${this.#mustHave} had been promised`);
    assert.ok(last <= this.#last, `the log ends at ${last}, but only ${this.#last} were appended`);
    let expected = records[0]?.position ?? last + 1;
    assert.ok(
      expected <= this.truncated + 1,
      `the log begins at ${expected}, but was let go of up to ${this.truncated} only`,
    );
    for (const { position, payload } of records) {
      assert.equal(position, expected, 'positions follow each other');
      assert.equal(payload, this.#payloads.get(position), `payload at ${position}`);
      expected++;
    }
    assert.equal(expected - 1, last);
    this.#last = last;
    this.#written = last;
    this.#stable = last;
  }

  appended(position: number, payload: string): void {
    assert.equal(position, this.#last + 1, 'a new batch takes the next position');
    this.#payloads.set(position, payload);
    this.#last = position;
  }

  written(position: number): void {
    assert.ok(position > this.#written && position <= this.#last, `written ${position}`);
    this.#written = position;
  }

  stable(position: number): void {
    assert.ok(position > this.#stable && position <= this.#written, `stable ${position}`);
    this.#stable = position;
  }

  get stablePosition(): number {
    return this.#stable;
  }

  endOfLife(kept: 'written' | 'stable'): void {
    if (kept === 'stable') this.#written = this.#stable;
    this.#mustHave = this.#written;
  }
}

interface Life {
  readonly world: FakeClock;
  readonly clock: ProcessClock;
  readonly disk: FakeDisk;
  readonly random: Random;
  readonly model: LogModel;
  readonly life: number;
}

/** 'ended': the process was stopped or came to the end of its work; 'failed': a write or sync failed. */
async function liveOnce({ world, clock, disk, random, model, life }: Life): Promise<'ended' | 'failed'> {
  let failed = false;
  let opened: FileLog | undefined;
  const found: { position: number; payload: string }[] = [];
  const opening = (async () => {
    await disk.makeFolder(FOLDER);
    await disk.syncDirectory('');
    const log = await FileLog.open({ disk, clock, folder: FOLDER, segmentBytes: SEGMENT_BYTES });
    for await (const record of log.read(0 as LogPosition))
      found.push({ position: record.position, payload: record.payload.toString() });
    opened = log;
  })();
  let refused: unknown;
  opening.catch((error: unknown) => {
    refused = error;
  });
  await world.until(() => opened !== undefined || refused !== undefined || disk.dead);
  if (refused !== undefined) {
    // Only a disk that fails may keep the log from opening: no crash makes it unreadable.
    assert.equal((refused as { code?: string }).code, 'disk_failed', `the log refuses to open: ${String(refused)}`);
    return 'failed';
  }
  if (opened === undefined) return 'ended';
  const log = opened;
  model.found(found, log.last);
  log.begin(
    { generation: 7, start: life },
    {
      written: (position) => model.written(position),
      stable: (position) => model.stable(position),
      failed: () => {
        failed = true;
      },
    },
  );
  for (let step = 0; step < 60 && !disk.dead && !failed; step++) {
    const choice = randomBelow(random, 10);
    if (choice < 6) {
      const payload = `life ${life} step ${step} ${'x'.repeat(randomBelow(random, 300))}`;
      model.appended(log.append(Buffer.from(payload)), payload);
    } else if (choice < 8) {
      log.hurry();
    } else if (choice === 8 && randomBelow(random, 3) === 0 && model.stablePosition > 0) {
      const through = model.stablePosition;
      model.truncated = through;
      log.truncate(through as LogPosition).catch(() => undefined);
    }
    await world.advance(randomUnit(random) * 12);
  }
  return failed ? 'failed' : 'ended';
}
