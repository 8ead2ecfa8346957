import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, trustDomainOf } from '@collective/base/ids';
import { SystemClock } from '@collective/base/system-clock';
import { Server, type ServerDuplexStream } from '@grpc/grpc-js';
import { type CoordinatorMessage, MembershipClient, MembershipService, type NodeMessage } from '../gen/node.ts';
import { channelCredentials, dialOptions, serverCredentials, serverOptions } from '../tls/grpc-credentials.ts';
import { ScratchAuthority } from '../tls/scratch-authority.ts';
import type { Trust } from '../tls/trust-files.ts';
import type { TrustSet } from '../tls/trust-set.ts';
import { clientLink, type ServerLink, serverLink } from './grpc-link.ts';
import type { Link } from './link.ts';
import { type LinkPairForTests, linkContract } from './link-contract.ts';

const clock = new SystemClock();
const alice = trustDomainOf('alice' as MemberName, 'home');
const authority = await ScratchAuthority.create(alice);
const coordinator = await authority.peer('coordinator');
const node = await authority.peer('node', 'node-1');

interface GrpcPair extends LinkPairForTests {
  readonly opener: Link<NodeMessage, CoordinatorMessage>;
  readonly accepter: ServerLink<CoordinatorMessage, NodeMessage>;
}

linkContract('grpc', openPair);

test('grpc link: a refusal reaches the client with its code and message', async () => {
  await using pair = await openPair();
  pair.accepter.refuse(
    new CollectiveError('wrong_member', 'Serve node-1: it is of another member', { details: { node: 'node-1' } }),
  );
  await assert.rejects(pair.opener.receive(), (thrown) => {
    assert.ok(thrown instanceof CollectiveError);
    assert.equal(thrown.code, 'wrong_member');
    assert.equal(thrown.message, 'Serve node-1: it is of another member');
    assert.deepEqual(thrown.details, { node: 'node-1' });
    return true;
  });
});

test('grpc link: nobody listening is unavailable', async () => {
  const client = new MembershipClient(
    '127.0.0.1:9',
    channelCredentials(fixed(node), { trustDomain: alice, role: 'coordinator' }, clock),
    dialOptions({ trustDomain: alice, role: 'coordinator' }),
  );
  const link = clientLink(client.link(), 'Link to nobody', clock);
  await assert.rejects(link.receive(), (thrown) => thrown instanceof CollectiveError && thrown.code === 'unavailable');
  client.close();
});

async function openPair(): Promise<GrpcPair> {
  const accepted = Promise.withResolvers<ServerLink<CoordinatorMessage, NodeMessage>>();
  const server = new Server(serverOptions());
  server.addService(MembershipService, {
    link: (call: ServerDuplexStream<NodeMessage, CoordinatorMessage>) =>
      accepted.resolve(serverLink(call, 'Link under test')),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', serverCredentials(fixed(coordinator)), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const wire = await openWire(port);
  const expected = { trustDomain: alice, role: 'coordinator' } as const;
  const client = new MembershipClient(
    `127.0.0.1:${wire.port}`,
    channelCredentials(fixed(node), expected, clock),
    dialOptions(expected),
  );
  const opener = clientLink(client.link(), 'Link under test', clock);
  return {
    opener,
    accepter: await accepted.promise,
    break: () => wire.cut(),
    [Symbol.asyncDispose]: async () => {
      opener.close();
      client.close();
      wire.cut();
      server.forceShutdown();
    },
  };
}

function fixed(current: TrustSet): Trust {
  return { current, onChange: () => () => undefined };
}

/** A TCP hop between the two, which can be cut like a cable. */
async function openWire(to: number): Promise<{ port: number; cut(): void }> {
  const sockets: Socket[] = [];
  const hop = createServer((near) => {
    const far = connect(to, '127.0.0.1');
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) {
      socket.on('error', () => socket.destroy());
      sockets.push(socket);
    }
  });
  await new Promise<void>((resolve) => hop.listen(0, '127.0.0.1', resolve));
  const address = hop.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    cut: () => {
      hop.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
