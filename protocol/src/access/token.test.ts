import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { CollectiveError } from '@collective/base/errors';
import { type AccessClaims, AccessRights, SignedAccess } from '../gen/node.ts';
import { accessPublicKey, rawPublicKey, signAccess, TOKEN_BYTES_MAX, verifyAccess } from './token.ts';

/** RFC 8032, test 1: a key that everybody knows. */
const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex');
const privateKey = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]),
  format: 'der',
  type: 'pkcs8',
});
const publicKey = createPublicKey(privateKey);
const keys = new Map([['k1', publicKey]]);

const claims: AccessClaims = {
  subject: 'spiffe://alice.home/user/ann',
  session: 7,
  rights: AccessRights.ACCESS_READ_WRITE,
  epoch: { generation: 0x6926a3c0, start: 3 },
  firstChunk: 100,
  lastChunk: 199,
  expires: { seconds: 1_764_000_300, nanos: 0 },
  keyId: 'k1',
};

const golden = [
  '0a3d', // field 1, 61 bytes: claims
  '0a1c7370696666653a2f2f616c6963652e686f6d652f757365722f616e6e', // subject
  '1007', // session
  '1803', // rights
  '220808c0c79ac9061003', // epoch
  '2864', // first chunk
  '30c701', // last chunk
  '3a0608ac8492c906', // expires
  '42026b31', // key id
  '1240', // field 2, 64 bytes: Ed25519 over "collective access v1\\0" and the claims
].join('');

const isInvalid = (thrown: unknown): boolean => thrown instanceof CollectiveError && thrown.code === 'token_invalid';

test('D7: a token has the same bytes in every release', () => {
  const token = signAccess(claims, privateKey);
  assert.equal(token.subarray(0, golden.length / 2).toString('hex'), golden);
  const body = SignedAccess.decode(token).claims;
  assert.deepEqual(
    token.subarray(-64),
    sign(null, Buffer.concat([Buffer.from('collective access v1\0'), body]), privateKey),
  );
  assert.deepEqual(verifyAccess(token, keys), claims);
});

test('D7: a token with any bit changed, cut anywhere, or too long is refused', () => {
  const token = signAccess(claims, privateKey);
  for (let i = 0; i < token.length; i++) {
    const changed = Buffer.from(token);
    changed[i] = (changed[i] ?? 0) ^ (1 << (i % 8));
    assert.throws(() => verifyAccess(changed, keys), isInvalid, `byte ${i}`);
    assert.throws(() => verifyAccess(token.subarray(0, i), keys), isInvalid, `cut at ${i}`);
  }
  assert.throws(() => verifyAccess(Buffer.alloc(TOKEN_BYTES_MAX + 1), keys), isInvalid);
});

test('D7: a token of an unknown key, or of another key under a known name, is refused', () => {
  const other = generateKeyPairSync('ed25519');
  assert.throws(() => verifyAccess(signAccess({ ...claims, keyId: 'k2' }, privateKey), keys), isInvalid);
  assert.throws(() => verifyAccess(signAccess(claims, other.privateKey), keys), isInvalid);
});

test('D7: the same claims signed without the prefix are no token', () => {
  const body = SignedAccess.decode(signAccess(claims, privateKey)).claims;
  const token = Buffer.from(SignedAccess.encode({ claims: body, signature: sign(null, body, privateKey) }).finish());
  assert.throws(() => verifyAccess(token, keys), isInvalid);
});

test('a signing key survives the way through a heartbeat', () => {
  const raw = rawPublicKey(publicKey);
  assert.equal(raw.toString('hex'), 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
  assert.deepEqual(verifyAccess(signAccess(claims, privateKey), new Map([['k1', accessPublicKey(raw)]])), claims);
  assert.throws(() => accessPublicKey(raw.subarray(1)), isInvalid);
});
