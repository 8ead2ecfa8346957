/** What every Link keeps, whatever carries it. Run for the gRPC link over real mutual TLS and for the memory link. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import type { CoordinatorMessage, NodeMessage } from '../gen/node.ts';
import type { Link } from './link.ts';

export interface LinkPairForTests extends AsyncDisposable {
  /** The side that opened the link. */
  readonly opener: Link<NodeMessage, CoordinatorMessage>;
  readonly accepter: Link<CoordinatorMessage, NodeMessage>;
  /** Breaks what carries the link. */
  break(): void;
}

export function linkContract(name: string, open: () => Promise<LinkPairForTests>): void {
  const contract = (sentence: string, run: (pair: LinkPairForTests) => Promise<void>): void => {
    test(`${name} link: ${sentence}`, { timeout: 20_000 }, async () => {
      await using pair = await open();
      await run(pair);
    });
  };

  contract('messages arrive whole and in order, both ways', async ({ opener, accepter }) => {
    const count = 2_000;
    const send = async (): Promise<void> => {
      for (let i = 0; i < count; i++) {
        opener.send(answer(i, Buffer.alloc(i % 300, i)));
        accepter.send(question(i));
        if (i % 50 === 0) await Promise.all([opener.drained(), accepter.drained()]);
      }
    };
    const read = async (): Promise<void> => {
      for (let i = 0; i < count; i++) {
        assert.deepEqual(await accepter.receive(), answer(i, Buffer.alloc(i % 300, i)));
        assert.deepEqual(await opener.receive(), question(i));
      }
    };
    await Promise.all([send(), read()]);
  });

  contract('a reader that gives up loses nothing', async ({ opener, accepter }) => {
    const stop = new AbortController();
    const waiting = accepter.receive(stop.signal);
    stop.abort(new CollectiveError('interrupted', 'Enough'));
    await assert.rejects(waiting, isCode('interrupted'));
    await assert.rejects(accepter.receive(stop.signal), isCode('interrupted'));
    opener.send(answer(1));
    assert.deepEqual(await accepter.receive(), answer(1));
  });

  contract('what was sent before a close arrives, then the end, and stays the end', async ({ opener, accepter }) => {
    opener.send(answer(1));
    opener.send(answer(2));
    opener.close();
    opener.send(answer(3));
    assert.deepEqual(await accepter.receive(), answer(1));
    assert.deepEqual(await accepter.receive(), answer(2));
    assert.equal(await accepter.receive(), undefined);
    assert.equal(await accepter.receive(), undefined);
    assert.equal(await opener.receive(), undefined);
    accepter.send(question(1));
    opener.close();
    accepter.close();
  });

  contract('the accepting side may close first, with the same order', async ({ opener, accepter }) => {
    opener.send(answer(0));
    await accepter.receive();
    accepter.send(question(1));
    accepter.close();
    assert.deepEqual(await opener.receive(), question(1));
    assert.equal(await opener.receive(), undefined);
    assert.equal(await accepter.receive(), undefined);
  });

  contract('a broken link is an error on both sides, after what had arrived', async (pair) => {
    pair.opener.send(answer(1));
    assert.deepEqual(await pair.accepter.receive(), answer(1));
    pair.break();
    await assert.rejects(pair.accepter.receive(), isCode('unavailable'));
    await assert.rejects(pair.opener.receive(), isCode('unavailable'));
    await assert.rejects(pair.opener.receive(), isCode('unavailable'));
    pair.opener.send(answer(2));
    await pair.opener.drained();
  });

  contract('a waiting reader learns of a break', async (pair) => {
    pair.opener.send(answer(1));
    await pair.accepter.receive();
    const waiting = Promise.allSettled([pair.accepter.receive(), pair.opener.receive()]);
    pair.break();
    for (const end of await waiting) assert.ok(end.status === 'rejected' && isCode('unavailable')(end.reason));
  });

  contract('a sender waits for a reader that lags, and goes on when it reads', async ({ opener, accepter }) => {
    const payload = Buffer.alloc(64 * 1024, 7);
    const bound = 2_000;
    let sent = 0;
    let waits = false;
    while (!waits && sent < bound) {
      opener.send(answer(sent++, payload));
      waits = await isPendingFor(opener.drained());
    }
    assert.ok(waits, `no back-pressure after ${sent} messages of 64 KiB`);
    const drained = opener.drained();
    for (let i = 0; i < sent; i++) assert.deepEqual(await accepter.receive(), answer(i, payload));
    await drained;
  });

  contract('waiting for room ends when the link ends', async (pair) => {
    const payload = Buffer.alloc(64 * 1024, 7);
    let pending: Promise<void> = Promise.resolve();
    for (let i = 0; i < 2_000; i++) {
      pair.opener.send(answer(i, payload));
      pending = pair.opener.drained();
      if (await isPendingFor(pending)) break;
    }
    pair.break();
    await pending;
  });

  contract('there is one reader at a time', async ({ accepter }) => {
    const first = accepter.receive();
    assert.throws(() => accepter.receive(), /one reader/);
    accepter.close();
    assert.equal(await first, undefined);
  });
}

function answer(number: number, held = Buffer.alloc(0)): NodeMessage {
  return { message: { $case: 'chunksHeld', value: { question: number, held: [held] } } };
}

function question(number: number): CoordinatorMessage {
  return { message: { $case: 'askChunks', value: { question: number, chunks: [] } } };
}

function isCode(code: string): (thrown: unknown) => boolean {
  return (thrown) => thrown instanceof CollectiveError && thrown.code === code;
}

/** Whether the promise is still open after some turns of the event loop: what can be done without the reader is done then. */
async function isPendingFor(promise: Promise<void>): Promise<boolean> {
  let open = true;
  void promise.then(() => {
    open = false;
  });
  for (let turn = 0; open && turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  return open;
}
