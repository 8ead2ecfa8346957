/** Real listeners that cannot listen, and what a person is told. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { listenError } from './listen-error.ts';

async function whyNot(host: string, port: number): Promise<unknown> {
  const server = createServer();
  try {
    await once(server.listen({ host, port }), 'listening');
    server.close();
    return undefined;
  } catch (cause) {
    return listenError(`${host}:${port}`, cause);
  }
}

test('a port that is taken, an address of another machine and a name that nobody has are told apart', async () => {
  const taken = createServer();
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  const { port } = taken.address() as AddressInfo;
  for (const [host, at, code, says] of [
    ['127.0.0.1', port, 'address_in_use', `Listen on 127.0.0.1:${port}: another program uses this port`],
    // RFC 5737: of no machine.
    ['203.0.113.1', 0, 'unavailable', 'Listen on 203.0.113.1:0: this machine has no such address'],
  ] as const) {
    const error = await whyNot(host, at);
    assert.ok(error instanceof Error && 'code' in error);
    assert.deepEqual([error.code, error.message], [code, says]);
  }
  taken.close();
});

for (const [errno, code, says, todo] of [
  ['EACCES', 'permission_denied', /this user may not use this port/, /above 1023/],
  ['ENOTFOUND', 'unavailable', /nobody knows this name/, /address of this machine/],
  ['EINVAL', 'unavailable', /^Listen on h:1$/, /./],
] as const) {
  test(`${errno} is ${code} with an advice about this machine`, () => {
    const cause = Object.assign(new Error(`listen ${errno}`), { code: errno });
    const error = listenError('h:1', cause);
    assert.equal(error.code, code);
    assert.match(error.message, says);
    assert.match(error.todo, todo);
    assert.equal(error.cause, cause);
  });
}
