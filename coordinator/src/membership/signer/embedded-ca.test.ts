import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { connect, createServer } from 'node:tls';
import { CollectiveError } from '@collective/base/errors';
import { type MemberName, type TrustDomain, trustDomainOf } from '@collective/base/ids';
import { SystemRandom } from '@collective/base/random';
import { SystemClock } from '@collective/base/system-clock';
import { makeCsr } from '@collective/protocol/tls/make-csr';
import { identifyPeer } from '@collective/protocol/tls/peer-identity';
import { spiffeId } from '@collective/protocol/tls/spiffe-id';
import { parseBundle } from '@collective/protocol/tls/trust-set';
import { EmbeddedCa } from './embedded-ca.ts';
import { signerContract } from './signer-contract.ts';

const clock = new SystemClock();
const random = new SystemRandom();
const alice = trustDomainOf('alice' as MemberName, 'home');
const bob = trustDomainOf('bob' as MemberName, 'home');
const scratch = await mkdtemp(join(tmpdir(), 'collective-ca-'));
after(() => rm(scratch, { recursive: true, force: true }));

const open = (name: string, trustDomain: TrustDomain): Promise<EmbeddedCa> =>
  EmbeddedCa.open({ folder: join(scratch, name), trustDomain, clock, random });
const hasCode = (code: string) => (thrown: unknown) => thrown instanceof CollectiveError && thrown.code === code;

signerContract('embedded', alice, () => open('contract', alice));

test('T1: the authority is Ed25519, signs leaves only, and is constrained to its trust domain', async () => {
  const ca = await open('shape', alice);
  const root = new X509Certificate(ca.bundlePem());
  assert.equal(root.publicKey.asymmetricKeyType, 'ed25519');
  assert.ok(root.ca);
  // NameConstraints, critical: permitted [0] { dNSName [2] alice.home, uniformResourceIdentifier [6] alice.home }.
  const constraints = '0603551d1e0101ff';
  assert.ok(root.raw.toString('hex').includes(constraints));
  assert.ok(root.raw.toString('hex').includes(`820a${Buffer.from('alice.home').toString('hex')}`));
  assert.ok(root.raw.toString('hex').includes(`860a${Buffer.from('alice.home').toString('hex')}`));
});

test('T4: the authority is the same after a restart, and its key is for nobody else', async () => {
  const first = await open('again', alice);
  const second = await open('again', alice);
  assert.equal(second.bundlePem(), first.bundlePem());
  assert.equal((await stat(join(scratch, 'again', 'ca.key'))).mode & 0o777, 0o600);
  assert.equal((await stat(join(scratch, 'again'))).mode & 0o777, 0o700);
});

test('T4: an authority that was half made when the power went is made anew', async () => {
  const folder = join(scratch, 'torn');
  await mkdir(`${folder}.new`);
  await writeFile(join(`${folder}.new`, 'ca.key'), 'half');
  await open('torn', alice);
  assert.deepEqual((await readdir(folder)).sort(), ['ca.crt', 'ca.key', 'generation.json']);
});

test('the authority of another member, a newer format and a damaged folder are told apart', async () => {
  await open('foreign', bob);
  await assert.rejects(open('foreign', alice), hasCode('wrong_member'));
  await open('newer', alice);
  await writeFile(join(scratch, 'newer', 'generation.json'), JSON.stringify({ format: 2, trustDomain: alice }));
  await assert.rejects(open('newer', alice), hasCode('version_too_new'));
  await open('damaged', alice);
  await rm(join(scratch, 'damaged', 'ca.key'));
  await assert.rejects(open('damaged', alice), hasCode('store_damaged'));
  assert.match(await readFile(join(scratch, 'damaged', 'ca.crt'), 'utf8'), /BEGIN CERTIFICATE/);
});

test("T1: bob's authority signing alice's name is refused by the handshake and by our own check", {
  timeout: 20_000,
}, async () => {
  const [alices, bobs] = [await open('alice', alice), await open('bob', bob)];
  const id = spiffeId(alice, 'coordinator');
  const { csr, keyPem } = await makeCsr(id);
  // The signer's checks are gone round, as a member could who changed the program.
  const request = {
    id,
    csr,
    publicKey: await import('@peculiar/x509').then(({ Pkcs10CertificateRequest }) =>
      Buffer.from(new Pkcs10CertificateRequest(csr).publicKey.rawData),
    ),
  };
  const forged = await bobs.sign(request);
  const genuine = await alices.sign(request);
  const ca = alices.bundlePem() + bobs.bundlePem();
  assert.equal(await handshake(genuine.certificatePem, keyPem, ca), undefined);
  assert.match(String(await handshake(forged.certificatePem, keyPem, ca)), /permitted subtree violation/);
  const roots = parseBundle(alices.bundlePem(), 'alice');
  assert.throws(
    () => identifyPeer(new X509Certificate(forged.certificatePem), { trustDomain: alice, roots }, clock),
    hasCode('unauthenticated'),
  );
});

/** What a client with both roots says to a server with this certificate. */
async function handshake(cert: string, key: string, ca: string): Promise<Error | undefined> {
  const server = createServer({ cert, key }, (socket) => socket.on('error', () => socket.destroy()).end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const result = await new Promise<Error | undefined>((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, ca, servername: 'coordinator.alice.home' }, () =>
      resolve(undefined),
    );
    socket.once('error', resolve);
    socket.resume();
  });
  server.close();
  return result;
}
