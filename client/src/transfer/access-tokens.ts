/**
 * The session's rights to put and get chunks (D7), as they were handed out: a token names the range of chunk ids that it
 * lets put, so the newest need not fit an id that was handed out before it. The signed claims are no secret and are read
 * here only to choose; nodes check them.
 */
import type { Clock } from '@collective/base/clock';
import { type ChunkId, chunkIdOf } from '@collective/base/ids';
import type { AccessToken } from '@collective/protocol/gen/common';
import { AccessClaims, SignedAccess } from '@collective/protocol/gen/node';

/** Tokens live five minutes and are refreshed early: few are ever of use at once. */
const TOKENS_KEPT = 16;
/** A token is not used when it ends so soon: the node's clock may be ahead. */
const EXPIRY_MARGIN_SECONDS = 5;

interface Kept {
  readonly bytes: Buffer;
  readonly expiresSeconds: number;
  readonly firstId: ChunkId;
  readonly lastId: ChunkId;
}

export class AccessTokens {
  readonly #clock: Clock;
  /** Newest first. */
  #tokens: Kept[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(access: AccessToken): void {
    const claims = AccessClaims.decode(SignedAccess.decode(access.token).claims);
    const epoch = claims.epoch ?? { generation: 0, start: 0 };
    const kept: Kept = {
      bytes: access.token,
      expiresSeconds: (access.expires ?? claims.expires)?.seconds ?? 0,
      firstId: chunkIdOf(epoch, claims.firstChunk),
      lastId: chunkIdOf(epoch, claims.lastChunk),
    };
    this.#tokens = [kept, ...this.#tokens.filter((other) => !other.bytes.equals(kept.bytes))].slice(0, TOKENS_KEPT);
  }

  clear(): void {
    this.#tokens = [];
  }

  /** Undefined: a fresh one is needed. */
  forPut(id: ChunkId): Buffer | undefined {
    return this.#usable().find((token) => token.firstId <= id && id <= token.lastId)?.bytes;
  }

  forGet(): Buffer | undefined {
    return this.#usable()[0]?.bytes;
  }

  #usable(): Kept[] {
    const { seconds } = this.#clock.now();
    return this.#tokens.filter((token) => token.expiresSeconds > seconds + EXPIRY_MARGIN_SECONDS);
  }
}
