import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { CollectiveError, type ErrorCode } from '@collective/base/errors';
import { type AdminConnection, connectAdmin } from '@collective/client';
import { MemoryTrust } from '@collective/protocol/tls/memory-trust';
import type { ScratchAuthority } from '@collective/protocol/tls/scratch-authority';
import { readTrustPems } from '@collective/protocol/tls/trust-files';
import { freePorts } from './free-ports.ts';
import { signal, stolenAuthority } from './raw-session.ts';
import { RunningMember } from './running-member.ts';

const OPERATOR = 'spiffe://alice.home/operator';

describe('the operator with an identity in memory', () => {
  let member: RunningMember;
  let authority: ScratchAuthority;
  let trust: MemoryTrust;

  before(async () => {
    member = await RunningMember.start();
    authority = await stolenAuthority(member);
    trust = new MemoryTrust(await authority.peer('operator'));
  });
  after(() => member?.[Symbol.asyncDispose]());
  afterEach((t) => member?.printLogs(t));

  const connect = (port = member.coordinatorPort, change = {}): Promise<AdminConnection> =>
    connectAdmin({ coordinator: `127.0.0.1:${port}`, trustDomain: member.trustDomain, trust, ...change });

  test('T3a, T4: it administers without files, and a replaced identity is shown from the next call on', async () => {
    using connection = await connect();
    const { admin } = connection;
    const me = await admin.whoAmI({ signal: signal() });
    assert.deepEqual([me.subject, me.admin, me.realms], [OPERATOR, true, []]);
    assert.deepEqual(
      (await admin.status({ signal: signal() })).nodes.map(({ name }) => name),
      ['node-1', 'node-2'],
    );
    await fails('permission_denied', admin.trash.list()[Symbol.asyncIterator]().next());

    // A long answer goes on over the connection that it began on.
    const backup = admin.backup({ signal: signal() })[Symbol.asyncIterator]();
    assert.ok((await backup.next()).value);
    const asking = Array.from({ length: 20 }, () => admin.whoAmI({ signal: signal() }));
    assert.ok(trust.replace(await authority.peer('operator')));
    for (const { subject } of await Promise.all(asking)) assert.equal(subject, OPERATOR);
    let pieces = 1;
    while (!(await backup.next()).done) pieces++;
    assert.ok(pieces > 1, 'the backup came to its end');
    assert.equal((await admin.whoAmI({ signal: signal() })).subject, OPERATOR);
  });

  test('T3: a member that cannot be reached fails within the deadline of the call, and says why', async () => {
    const [port] = await freePorts(1);
    using connection = await connect(port, { callWithinMs: 2_000 });
    await fails('unavailable', connection.admin.status());
    member.coordinator.freeze();
    try {
      using frozen = await connect(member.coordinatorPort, { callWithinMs: 500 });
      await fails('deadline_exceeded', frozen.admin.whoAmI());
      await assert.rejects(
        frozen.admin.whoAmI({ signal: AbortSignal.abort(new Error('no time')) }),
        /no time/,
        'and with the signal of the caller',
      );
    } finally {
      member.coordinator.thaw();
    }
  });

  test("T1: another member's identity is refused before anything is dialled", async () => {
    const folder = join(member.folder, 'ann');
    const ann = new MemoryTrust(await readTrustPems(folder));
    await fails('wrong_member', connectAdmin({ coordinator: 'localhost:1', trustDomain: 'bob.home', trust: ann }));
  });
});

async function fails(code: ErrorCode, attempt: Promise<unknown>): Promise<void> {
  await assert.rejects(attempt, (thrown: unknown) => {
    assert.ok(thrown instanceof CollectiveError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  });
}
