/**
 * Access tokens (D7): claims that the coordinator signs with Ed25519 and nodes verify, one a session. The signature covers a
 * prefix of its own, so that nothing else that the key ever signs can pass for a token, and the claims' very bytes, so that
 * no second way to encode them matters. Who may use a token for what is decided by the node; here it is only genuine or not.
 */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { CollectiveError } from '@collective/base/errors';
import { AccessClaims, SignedAccess } from '../gen/node.ts';

const SIGNED_PREFIX = Buffer.from('collective access v1\0');
const SIGNATURE_BYTES = 64;
const PUBLIC_KEY_BYTES = 32;
/** Claims are some hundred bytes; a longer token is not one. */
export const TOKEN_BYTES_MAX = 2_048;

export function signAccess(claims: AccessClaims, privateKey: KeyObject): Buffer {
  const body = Buffer.from(AccessClaims.encode(claims).finish());
  const signature = sign(null, Buffer.concat([SIGNED_PREFIX, body]), privateKey);
  return Buffer.from(SignedAccess.encode({ claims: body, signature }).finish());
}

/** The claims of a token that one of the keys signed. Throws `token_invalid`. */
export function verifyAccess(token: Uint8Array, keys: ReadonlyMap<string, KeyObject>): AccessClaims {
  const { claims, body, signature } = decode(token);
  const key = keys.get(claims.keyId);
  if (key === undefined)
    throw new CollectiveError('token_invalid', `Check an access token: its key '${claims.keyId}' is not known`);
  if (signature.length !== SIGNATURE_BYTES || !verify(null, Buffer.concat([SIGNED_PREFIX, body]), key, signature))
    throw new CollectiveError('token_invalid', 'Check an access token: its signature is wrong');
  return claims;
}

/** A public key as heartbeats carry it. */
export function accessPublicKey(raw: Uint8Array): KeyObject {
  if (raw.length !== PUBLIC_KEY_BYTES)
    throw new CollectiveError('token_invalid', `Read a signing key of ${raw.length} bytes; it has ${PUBLIC_KEY_BYTES}`);
  return createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') },
    format: 'jwk',
  });
}

export function rawPublicKey(key: KeyObject): Buffer {
  const { x } = key.export({ format: 'jwk' });
  return Buffer.from(x ?? '', 'base64url');
}

function decode(token: Uint8Array): { claims: AccessClaims; body: Buffer; signature: Buffer } {
  if (token.length === 0 || token.length > TOKEN_BYTES_MAX)
    throw new CollectiveError(
      'token_invalid',
      `Check an access token of ${token.length} bytes: 1 to ${TOKEN_BYTES_MAX} are possible`,
    );
  try {
    const { claims, signature } = SignedAccess.decode(token);
    return { claims: AccessClaims.decode(claims), body: claims, signature };
  } catch (cause) {
    throw new CollectiveError('token_invalid', 'Check an access token: it cannot be read', { cause });
  }
}
