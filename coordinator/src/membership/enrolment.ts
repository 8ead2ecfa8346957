/**
 * Tokens become certificates, certificates are renewed (T3, T5). A token is a secret for one name, one key and a short time;
 * only its SHA-256 is stored. That a key has used it is stable before anything is signed for that key, so that a token never
 * serves two keys, not after a power loss either. For the key that used it a token is answered again until its time is
 * over: an answer that was lost, or that a signer elsewhere has not given yet, must not cost it.
 */
import { createHash } from 'node:crypto';
import { CollectiveError } from '@collective/base/errors';
import type { TrustDomain } from '@collective/base/ids';
import type { Random } from '@collective/base/random';
import type { CreatedToken, CreateTokenRequest, IssuedCertificate } from '@collective/protocol/gen/admin';
import { checkCsr } from '@collective/protocol/tls/check-csr';
import type { PeerIdentity } from '@collective/protocol/tls/peer-identity';
import { parseSpiffeId, type SpiffeId, spiffeId } from '@collective/protocol/tls/spiffe-id';
import type { Engine, Transaction } from '../engine/transaction.ts';
import type { TokenRow } from '../tables/gen/tables.ts';
import { prefixEnd } from '../tables/table.ts';
import { SUBJECTS, TOKENS } from '../tables/tables.ts';
import type { Signer } from './signer/signer.ts';
import { checkWish, wishedRow } from './subject-wish.ts';
import { putSubject } from './subjects.ts';

const TOKEN_PREFIX = 'col1-';
const TOKEN_RANDOM_BYTES = 32;
/** The prefix and 43 characters of base64url. */
const TOKEN_CHARACTERS = TOKEN_PREFIX.length + 43;
const DEFAULT_TTL_SECONDS = 3_600;
const TTL_SECONDS_MAX = 30 * 86_400;
/** Tokens that are neither used nor expired, and some that are. */
export const TOKENS_MAX = 1_000;
const NO_KEY = Buffer.alloc(0);
const ENROLLED_ROLES = ['user', 'client', 'node'] as const;

export interface EnrolmentParts {
  readonly engine: Engine;
  readonly signer: Signer;
  readonly random: Random;
  readonly trustDomain: TrustDomain;
}

export class Enrolment {
  readonly #parts: EnrolmentParts;

  constructor(parts: EnrolmentParts) {
    this.#parts = parts;
  }

  /** `allowed` runs first in the same operation and throws unless the caller may do this. */
  async createToken(
    wish: CreateTokenRequest,
    allowed: (tx: Transaction) => void = () => undefined,
  ): Promise<CreatedToken> {
    const id = this.#idOf(wish);
    const ttlSeconds = wish.ttlSeconds === 0 ? DEFAULT_TTL_SECONDS : wish.ttlSeconds;
    if (ttlSeconds > TTL_SECONDS_MAX)
      throw new CollectiveError(
        'invalid_argument',
        `Create a token for ${ttlSeconds} seconds: ${TTL_SECONDS_MAX} (30 days) are the longest`,
      );
    checkWish(wish, 'Create a token');
    const token = TOKEN_PREFIX + this.#parts.random.bytes(TOKEN_RANDOM_BYTES).toString('base64url');
    const expires = await this.#parts.engine.run((tx) => {
      allowed(tx);
      sweepTokens(tx);
      const row: TokenRow = {
        uri: id.uri,
        expires: { seconds: tx.now.seconds + ttlSeconds, nanos: 0 },
        used: false,
        usedBy: NO_KEY,
        // Nodes have no rights over files: their certificate is all there is to know of them.
        subject: id.role === 'node' ? undefined : { ...wishedRow(tx, id, wish), created: undefined },
      };
      tx.put(TOKENS, row, hashOf(token));
      return row.expires;
    });
    return { token, expires, subject: id.uri };
  }

  /** Whether `enrol` would take the token now, with any key. */
  async isUsable(token: string): Promise<boolean> {
    return await this.#parts.engine.run((tx) => {
      const row = tx.get(TOKENS, hashOf(token));
      return row !== undefined && !row.used && !hasExpired(row, tx);
    });
  }

  /** A token that nobody shall use any more. */
  async revokeToken(token: string): Promise<void> {
    await this.#parts.engine.run((tx) => tx.remove(TOKENS, hashOf(token)));
  }

  /** Safe to repeat with the same key. Throws `token_invalid`, `csr_refused`, `not_signed_yet`, `overloaded`. */
  async enrol(token: string, csr: Uint8Array, signal?: AbortSignal): Promise<IssuedCertificate> {
    const { engine, signer } = this.#parts;
    if (!token.startsWith(TOKEN_PREFIX) || token.length !== TOKEN_CHARACTERS)
      throw new CollectiveError(
        'token_invalid',
        `Enrol with a token that is not one: it begins with ${TOKEN_PREFIX} and has ${TOKEN_CHARACTERS} characters`,
      );
    const hash = hashOf(token);
    const row = await engine.run((tx) => livingToken(tx, hash));
    const id = parseSpiffeId(row.uri);
    const request = await checkCsr(csr, id);
    const key = createHash('sha256').update(request.publicKey).digest();
    await engine.run((tx) => {
      const still = livingToken(tx, hash);
      refuseOtherKey(still, key);
      // What the member has decided about the subject since the first use stands.
      if (still.used) return;
      tx.put(TOKENS, { ...still, used: true, usedBy: key }, hash);
      if (still.subject !== undefined) putSubject(tx, still.subject);
    });
    const leaf = await signer.sign(request, signal);
    // A subject that was removed while this waited has no token any more, and gets no certificate.
    await engine.run((tx) => livingToken(tx, hash));
    return { certificatePem: leaf.certificatePem, bundlePem: signer.bundlePem(), subject: id.uri };
  }

  /** A new leaf for the name that the peer has; users and clients must still be known. Throws as `enrol` does. */
  async renew(peer: PeerIdentity, csr: Uint8Array, signal?: AbortSignal): Promise<IssuedCertificate> {
    const { engine, signer } = this.#parts;
    await engine.run((tx) => requireRenewable(tx, peer));
    const leaf = await signer.sign(await checkCsr(csr, parseSpiffeId(peer.uri)), signal);
    await engine.run((tx) => requireRenewable(tx, peer));
    return { certificatePem: leaf.certificatePem, bundlePem: signer.bundlePem(), subject: peer.uri };
  }

  #idOf({ role, name }: CreateTokenRequest): SpiffeId {
    const known = ENROLLED_ROLES.find((each) => each === role);
    if (known === undefined)
      throw new CollectiveError(
        'invalid_argument',
        `Create a token for a '${role}': it is for a user, a client or a node`,
      );
    return spiffeId(this.#parts.trustDomain, known, name);
  }
}

function requireRenewable(tx: Transaction, { uri, role }: PeerIdentity): void {
  const needsRow = role === 'user' || role === 'client';
  if (needsRow && tx.get(SUBJECTS, uri) === undefined)
    throw new CollectiveError(
      'permission_denied',
      `Renew the certificate of ${uri}: this member does not know it any more; enrol it with a token`,
    );
}

/** One whose time is not over, used or not. */
function livingToken(tx: Transaction, hash: string): TokenRow {
  const row = tx.get(TOKENS, hash);
  if (row === undefined)
    throw new CollectiveError(
      'token_invalid',
      'Enrol with a token that this member did not make, or forgot since it expired',
    );
  if (hasExpired(row, tx)) throw new CollectiveError('token_invalid', `Enrol ${row.uri}: the token has expired`);
  return row;
}

function hasExpired(row: TokenRow, tx: Transaction): boolean {
  return (row.expires?.seconds ?? 0) <= tx.now.seconds;
}

function refuseOtherKey(row: TokenRow, key: Buffer): void {
  if (row.used && !key.equals(row.usedBy))
    throw new CollectiveError('token_invalid', `Enrol ${row.uri}: the token was used before, with another key`);
}

/** Removes what can no longer be used; refuses to keep more than the bound. */
function sweepTokens(tx: Transaction): void {
  let kept = 0;
  for (const { key, value } of tx.scan(TOKENS, TOKENS.prefix, prefixEnd(TOKENS.prefix), TOKENS_MAX)) {
    if ((value.expires?.seconds ?? 0) <= tx.now.seconds) tx.remove(TOKENS, key.slice(TOKENS.prefix.length));
    else kept++;
  }
  if (kept >= TOKENS_MAX)
    throw new CollectiveError('overloaded', `Create a token: ${TOKENS_MAX} wait for their use or their end already`);
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
