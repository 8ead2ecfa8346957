import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { SystemClock } from '@collective/base/system-clock';
import { untilSigned } from './until-signed.ts';

const clock = new SystemClock();

/** Fails with these, then answers. */
function asked(...codes: readonly ErrorCode[]): { ask: () => Promise<string>; calls: () => number } {
  let calls = 0;
  const ask = async (): Promise<string> => {
    const code = codes[calls++];
    if (code !== undefined) throw new CollectiveError(code, `Ask for the ${calls}th time`);
    return 'signed';
  };
  return { ask, calls: () => calls };
}

test('T5: a certificate that is not signed yet is asked for again, also while the coordinator restarts', async () => {
  const { ask, calls } = asked('not_signed_yet', 'unavailable', 'not_signed_yet');
  assert.equal(await untilSigned(ask, { clock, withinMs: 20_000 }), 'signed');
  assert.equal(calls(), 4);
});

for (const code of ['unavailable', 'token_invalid', 'csr_refused', 'overloaded'] as const)
  test(`T5: before a request is known to be approved, '${code}' is for the caller`, async () => {
    const { ask, calls } = asked(code);
    await assert.rejects(untilSigned(ask, { clock, withinMs: 20_000 }), { code });
    assert.equal(calls(), 1);
  });

test('T5: a refusal of what was approved ends the asking', async () => {
  const { ask } = asked('not_signed_yet', 'csr_refused');
  await assert.rejects(untilSigned(ask, { clock, withinMs: 20_000 }), { code: 'csr_refused' });
});

test('T5: asking ends with its time, and with its signal', async () => {
  const never = asked(...Array<ErrorCode>(1_000).fill('not_signed_yet'));
  await assert.rejects(untilSigned(never.ask, { clock, withinMs: 100 }), { code: 'not_signed_yet' });
  const stop = new AbortController();
  const asking = untilSigned(never.ask, { clock, withinMs: 20_000, signal: stop.signal });
  stop.abort(new CollectiveError('interrupted', 'Enough'));
  await assert.rejects(asking, { code: 'interrupted' });
});
