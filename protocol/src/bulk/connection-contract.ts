/** What every BulkConnection must do; run on TLS sockets and on the memory pair. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { BulkConnection } from './connection.ts';
import { encodeChunk } from './encode-chunk.ts';
import { encodeControlFrame, FRAME_TYPES, type Frame, payloadOf } from './frame.ts';

export interface ConnectionsUnderTest extends AsyncDisposable {
  readonly left: BulkConnection;
  readonly right: BulkConnection;
  /** Lets time pass until the condition holds. */
  until(condition: () => boolean): Promise<void>;
}

/** Keeps what a connection delivers. */
class Recorder {
  readonly frames: { readonly type: number; readonly stream: number; readonly payload: Buffer }[] = [];
  closed: { readonly error: CollectiveError | undefined } | undefined;

  constructor(connection: BulkConnection, release = true) {
    connection.listen({
      frame: (frame: Frame) => {
        this.frames.push({ type: frame.type, stream: frame.stream, payload: Buffer.from(payloadOf(frame)) });
        if (release) frame.release();
      },
      closed: (error) => {
        assert.equal(this.closed, undefined, 'closed is told once');
        this.closed = { error };
      },
    });
  }
}

export function connectionContract(name: string, make: () => Promise<ConnectionsUnderTest>): void {
  const check = (title: string, body: (subject: ConnectionsUnderTest) => Promise<void>): void => {
    test(title, async () => {
      await using subject = await make();
      await body(subject);
    });
  };

  describe(`bulk connection contract: ${name}`, () => {
    check('frames arrive whole and in order, both ways', async ({ left, right, until }) => {
      const [atLeft, atRight] = [new Recorder(left), new Recorder(right)];
      for (let i = 1; i <= 300; i++) {
        left.send([encodeControlFrame('PING', i, Buffer.alloc(i, i))]);
        right.send([encodeControlFrame('PONG', i, Buffer.alloc(300 - i, i))]);
      }
      await until(() => atLeft.frames.length === 300 && atRight.frames.length === 300);
      assert.deepEqual(
        atRight.frames.map(({ stream }) => stream),
        Array.from({ length: 300 }, (_unused, i) => i + 1),
      );
      assert.ok(atRight.frames.every(({ stream, payload }) => payload.equals(Buffer.alloc(stream, stream))));
      assert.ok(atLeft.frames.every(({ stream, payload }) => payload.equals(Buffer.alloc(300 - stream, stream))));
    });

    check('frames that came before anybody listens are kept', async ({ left, right, until }) => {
      const atRight = new Recorder(right);
      right.send([encodeControlFrame('WELCOME', 0, Buffer.from('early'))]);
      left.send([encodeControlFrame('HELLO', 0, Buffer.from('x'))]);
      await until(() => atRight.frames.length === 1);
      const atLeft = new Recorder(left);
      await until(() => atLeft.frames.length === 1);
      assert.equal(atLeft.frames[0]?.payload.toString(), 'early');
    });

    check(
      'D5: a chunk passes with the stream id of each sender, also when its memory is queued several times',
      async ({ left, right, until }) => {
        const raw = Buffer.concat([Buffer.alloc(2_000_000, 'text '), crypto.getRandomValues(Buffer.alloc(60_000))]);
        const chunk = encodeChunk([raw], { compress: true });
        const small = encodeChunk([Buffer.from('small')], { compress: false });
        const [atLeft, atRight] = [new Recorder(left), new Recorder(right)];
        for (const stream of [5, 6, 7]) {
          for (const frames of chunk.frames) left.send([frames], { stream });
          for (const frames of small.frames) left.send([frames], { stream });
          for (const frames of chunk.frames) right.send([frames], { stream: stream + 100 });
        }
        const perChunk = Math.ceil(raw.length / 131_072);
        await until(() => atRight.frames.length === 3 * (perChunk + 1) && atLeft.frames.length === 3 * perChunk);
        assert.deepEqual([...new Set(atRight.frames.map(({ stream }) => stream))], [5, 6, 7]);
        assert.deepEqual([...new Set(atLeft.frames.map(({ stream }) => stream))], [105, 106, 107]);
        assert.ok(atRight.frames.every(({ type }) => type === FRAME_TYPES.DATA));
      },
    );

    check('the sender is told when its bytes are free, and when to wait', async ({ left, right, until }) => {
      const atRight = new Recorder(right);
      const chunk = encodeChunk([crypto.getRandomValues(Buffer.alloc(60_000))], { compress: false });
      const frames = Buffer.concat(chunk.frames);
      let freed = 0;
      let sent = 0;
      let full = 0;
      while (full === 0) {
        sent++;
        if (!left.send([Buffer.from(frames)], { stream: 1, onSent: () => freed++ })) full = left.queuedBytes;
        assert.ok(sent < 10_000, 'the queue has a mark');
      }
      assert.ok(full >= 4 * 1024 * 1024);
      let drained = false;
      const waiting = left.drained().then(() => {
        drained = true;
      });
      await until(() => drained);
      await waiting;
      assert.ok(left.queuedBytes <= 1024 * 1024);
      await until(() => freed === sent && atRight.frames.length === sent);
    });

    check(
      'a paused side is not read: the sender waits; after resume everything comes',
      async ({ left, right, until }) => {
        const atRight = new Recorder(right);
        left.send([encodeControlFrame('PING', 1, Buffer.alloc(0))]);
        await until(() => atRight.frames.length === 1);
        right.pause();
        const frame = encodeControlFrame('PING', 2, Buffer.alloc(60_000, 1));
        let sent = 0;
        // More than sockets and queues of one machine take.
        for (; sent < 1000; sent++) left.send([frame]);
        await until(() => left.queuedBytes > 0);
        assert.ok(left.queuedBytes > 4 * 1024 * 1024, `${left.queuedBytes} bytes wait`);
        assert.ok(atRight.frames.length < 100, `${atRight.frames.length} frames came`);
        right.resume();
        await until(() => atRight.frames.length === sent + 1);
      },
    );

    check(
      'a close in order delivers what was sent before, and tells both sides once',
      async ({ left, right, until }) => {
        const [atLeft, atRight] = [new Recorder(left), new Recorder(right)];
        for (let i = 1; i <= 50; i++) left.send([encodeControlFrame('PING', i, Buffer.alloc(50_000))]);
        left.close();
        left.close();
        left.send([encodeControlFrame('PING', 99, Buffer.alloc(0))]);
        await until(() => atRight.closed !== undefined && atLeft.closed !== undefined);
        assert.equal(atRight.frames.length, 50);
        assert.deepEqual([atLeft.closed, atRight.closed], [{ error: undefined }, { error: undefined }]);
      },
    );

    check(
      'a broken connection tells both sides, frees what waits to be sent and wakes who waits to send',
      async ({ left, right, until }) => {
        const [atLeft, atRight] = [new Recorder(left), new Recorder(right)];
        right.pause();
        let freed = 0;
        for (let i = 0; i < 300; i++)
          left.send([encodeControlFrame('PING', 1, Buffer.alloc(60_000))], { onSent: () => freed++ });
        const drained = left.drained();
        left.destroy(new CollectiveError('deadline_exceeded', 'enough'));
        await drained;
        await until(() => atLeft.closed !== undefined && freed === 300);
        assert.equal(atLeft.closed?.error?.code, 'deadline_exceeded');
        right.resume();
        await until(() => atRight.closed !== undefined);
        assert.equal(left.send([encodeControlFrame('PING', 1, Buffer.alloc(10))]), true);
      },
    );

    check('D5: bytes that are no frame end the connection with frame_invalid', async ({ left, right, until }) => {
      const [atLeft, atRight] = [new Recorder(left), new Recorder(right)];
      const damaged = encodeControlFrame('PING', 1, Buffer.from('payload'));
      damaged[30] = (damaged[30] ?? 0) ^ 1;
      left.send([
        encodeControlFrame('PING', 1, Buffer.from('good')),
        damaged,
        encodeControlFrame('PING', 3, Buffer.from('never')),
      ]);
      await until(() => atRight.closed !== undefined && atLeft.closed !== undefined);
      assert.deepEqual(
        atRight.frames.map(({ payload }) => payload.toString()),
        ['good'],
      );
      assert.equal(atRight.closed?.error?.code, 'frame_invalid');
    });
  });
}
