/**
 * Who may put and get which chunk (D7): the coordinator's signed token says who, which rights and which ids; a ticket, made with
 * this node's own key, says that the session may read this chunk here. A node knows no realms: it believes the coordinator, whose
 * keys come with each heartbeat, and it refuses every epoch older than one it has seen (M2a), also after its own restart.
 */
import type { KeyObject } from 'node:crypto';
import { type Clock, type Timestamp, wallMs } from '@collective/base/clock';
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import { type ChunkId, chunkIdEpoch, compareEpochs, type Epoch, epochHex } from '@collective/base/ids';
import { isGenuineTicket } from '@collective/protocol/access/ticket';
import { accessPublicKey, verifyAccess } from '@collective/protocol/access/token';
import { type AccessClaims, AccessRights, type Welcome } from '@collective/protocol/gen/node';

const EPOCH_FILE = 'epoch.json';
/** Verified tokens kept: a token a session, so this is sessions at once. */
const TOKENS_KEPT_MAX = 4096;
const NO_EPOCH: Epoch = { generation: 0, start: 0 };

/** The other end of a bulk connection, from its certificate. */
export interface BulkPeer {
  readonly uri: string;
  readonly role: string;
  readonly name: string;
}

export class AccessControl {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #verified = new Map<string, AccessClaims>();
  #highestEpoch: Epoch;
  #keys = new Map<string, KeyObject>();
  #ticketKeys: readonly Buffer[] = [];

  /** Reads the highest epoch that was ever seen on this disk. */
  static async open(disk: Disk, clock: Clock): Promise<AccessControl> {
    const text = await readWhole(disk, EPOCH_FILE);
    return new AccessControl(disk, clock, text === undefined ? NO_EPOCH : parseEpoch(text));
  }

  private constructor(disk: Disk, clock: Clock, highestEpoch: Epoch) {
    this.#disk = disk;
    this.#clock = clock;
    this.#highestEpoch = highestEpoch;
  }

  get highestEpoch(): Epoch {
    return this.#highestEpoch;
  }

  /** True once the coordinator has given keys. */
  get ready(): boolean {
    return this.#keys.size > 0;
  }

  /** Takes keys and epoch from the coordinator. Throws `fenced` when an older coordinator speaks. The epoch is stable before it is used. */
  async welcome(welcome: Welcome): Promise<void> {
    const epoch = welcome.epoch ?? NO_EPOCH;
    const order = compareEpochs(epoch, this.#highestEpoch);
    if (order < 0)
      throw new CollectiveError(
        'fenced',
        `Follow the coordinator of epoch ${epochHex(epoch)}: epoch ${epochHex(this.#highestEpoch)} was seen here before`,
      );
    if (order > 0) {
      await replaceWhole(
        this.#disk,
        EPOCH_FILE,
        Buffer.from(`${JSON.stringify({ format: 1, generation: epoch.generation, start: epoch.start })}\n`),
      );
      this.#highestEpoch = { generation: epoch.generation, start: epoch.start };
    }
    this.#keys = new Map(welcome.signingKeys.map(({ id, publicKey }) => [id, accessPublicKey(publicKey)]));
    this.#ticketKeys = [welcome.ticketKey, welcome.previousTicketKey].filter((key) => key.length > 0);
  }

  /** The claims of a token that is valid now and is this peer's own, or was handed on by a node. Throws `token_invalid`. */
  check(token: Buffer, peer: BulkPeer): AccessClaims {
    // Not the token's fault: another replica may do, or a later try.
    if (!this.ready)
      throw new CollectiveError(
        'unavailable',
        'Check an access token: the coordinator has told no keys since this start',
      );
    const claims = this.#verify(token);
    if (peer.role !== 'node' && claims.subject !== peer.uri)
      throw invalid(`it is ${claims.subject}'s, not ${peer.uri}'s`);
    if (!this.#keys.has(claims.keyId)) throw invalid(`its key ${claims.keyId} is not known here`);
    if (secondsOf(claims.expires) * 1000 <= wallMs(this.#clock)) throw invalid('it has expired');
    if (compareEpochs(claims.epoch ?? NO_EPOCH, this.#highestEpoch) < 0)
      throw invalid(
        `it is of epoch ${epochHex(claims.epoch ?? NO_EPOCH)}, this node has seen ${epochHex(this.#highestEpoch)}`,
      );
    return claims;
  }

  checkPut(claims: AccessClaims, chunk: ChunkId): void {
    if (claims.rights !== AccessRights.ACCESS_WRITE && claims.rights !== AccessRights.ACCESS_READ_WRITE)
      throw new CollectiveError('permission_denied', `Put chunk ${chunk}: the token gives no right to write`);
    const number = Number.parseInt(chunk.slice(16), 16);
    const sameEpoch = compareEpochs(chunkIdEpoch(chunk), claims.epoch ?? NO_EPOCH) === 0;
    if (!sameEpoch || number < claims.firstChunk || number > claims.lastChunk)
      throw invalid(`chunk ${chunk} is outside its range of ids`);
  }

  checkGet(claims: AccessClaims, chunk: ChunkId, ticket: Buffer, expires: Timestamp | undefined): void {
    if (claims.rights !== AccessRights.ACCESS_READ && claims.rights !== AccessRights.ACCESS_READ_WRITE)
      throw new CollectiveError('permission_denied', `Get chunk ${chunk}: the token gives no right to read`);
    if (secondsOf(expires) * 1000 <= wallMs(this.#clock))
      throw invalid(`the ticket for chunk ${chunk} has expired`, 'ticket');
    const facts = { chunk, session: claims.session, expiresSeconds: secondsOf(expires) };
    if (!isGenuineTicket(this.#ticketKeys, facts, ticket))
      throw invalid(`the ticket for chunk ${chunk} was not made for it, this session and this node`, 'ticket');
  }

  #verify(token: Buffer): AccessClaims {
    const name = token.toString('latin1');
    const known = this.#verified.get(name);
    if (known !== undefined) return known;
    const claims = verifyAccess(token, this.#keys);
    if (this.#verified.size >= TOKENS_KEPT_MAX) {
      const [oldest] = this.#verified.keys();
      if (oldest !== undefined) this.#verified.delete(oldest);
    }
    this.#verified.set(name, claims);
    return claims;
  }
}

function secondsOf(time: Timestamp | undefined): number {
  return time?.seconds ?? 0;
}

function parseEpoch(text: Buffer): Epoch {
  try {
    const { generation, start } = JSON.parse(text.toString('utf8')) as { generation?: unknown; start?: unknown };
    if (typeof generation === 'number' && typeof start === 'number') return { generation, start };
  } catch (cause) {
    throw new CollectiveError('store_damaged', `Read ${EPOCH_FILE}`, { cause });
  }
  throw new CollectiveError('store_damaged', `Read ${EPOCH_FILE}: it holds no epoch`);
}

function invalid(what: string, kind = 'token'): CollectiveError {
  return new CollectiveError('token_invalid', `Check an access ${kind}: ${what}`);
}
