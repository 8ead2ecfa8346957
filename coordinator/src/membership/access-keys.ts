/**
 * Keys of data access (D7): one that signs session tokens and one from which each node's ticket key is derived. They turn
 * over daily, the one before stays valid beside the new one, and nodes get both with every heartbeat. They lie in a file of
 * their own, readable by the coordinator alone: not in the metadata, whose log goes to other machines, and not in memory
 * only, because a restart must not turn away uploads that are under way.
 */
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { type Clock, wallMs } from '@collective/base/clock';
import { type Disk, readWhole, replaceWhole } from '@collective/base/disk';
import { CollectiveError } from '@collective/base/errors';
import type { NodeName } from '@collective/base/ids';
import { HEARTBEAT_INTERVAL_MS } from '@collective/base/limits';
import type { Random } from '@collective/base/random';
import { rawPublicKey } from '@collective/protocol/access/token';
import type { SigningKey } from '@collective/protocol/gen/node';

const ROTATE_AFTER_MS = 24 * 3_600_000;
/** A new key is given to the nodes for some heartbeats before anything is signed with it: else they would refuse it for one. */
const PUBLISHED_BEFORE_USE_MS = 5 * HEARTBEAT_INTERVAL_MS;
const FORMAT = 1;

interface KeySet {
  readonly id: string;
  readonly createdMs: number;
  readonly privateKey: KeyObject;
  readonly publicKey: Buffer;
  readonly ticketMaster: Buffer;
}

interface StoredKeys {
  version: number;
  keys: { id: string; createdMs: number; privateKey: string; ticketMaster: string }[];
}

export class AccessKeys {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #random: Random;
  /** Newest first, at most two. */
  #sets: readonly KeySet[];

  /** Reads the keys, or makes and stores the first. `path`: on the disk of the coordinator's data. */
  static async load(options: { disk: Disk; path: string; clock: Clock; random: Random }): Promise<AccessKeys> {
    const content = await readWhole(options.disk, options.path);
    const keys = new AccessKeys(options, content === undefined ? [] : decode(content, options.path));
    await keys.rotateWhenDue();
    return keys;
  }

  private constructor(options: { disk: Disk; path: string; clock: Clock; random: Random }, sets: readonly KeySet[]) {
    this.#disk = options.disk;
    this.#path = options.path;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#sets = sets;
  }

  /** Stable on disk before the new key is used. */
  async rotateWhenDue(): Promise<void> {
    const nowMs = wallMs(this.#clock);
    const newest = this.#sets[0];
    if (newest !== undefined && nowMs - newest.createdMs < ROTATE_AFTER_MS) return;
    const sets = [makeKeySet(nowMs, this.#random), ...this.#sets].slice(0, 2);
    await replaceWhole(this.#disk, this.#path, encode(sets));
    this.#sets = sets;
  }

  get signing(): { readonly id: string; readonly privateKey: KeyObject } {
    return this.#inUse();
  }

  signingKeys(): SigningKey[] {
    return this.#sets.map(({ id, publicKey }) => ({ id, publicKey }));
  }

  ticketKeys(node: NodeName): { current: Buffer; previous: Buffer } {
    const [current, previous] = this.#sets;
    return {
      current: current === undefined ? Buffer.alloc(0) : ticketKey(current, node),
      previous: previous === undefined ? Buffer.alloc(0) : ticketKey(previous, node),
    };
  }

  ticketKey(node: NodeName): Buffer {
    return ticketKey(this.#inUse(), node);
  }

  /** The newest that all nodes have had time to learn; the first key has no other beside it. */
  #inUse(): KeySet {
    const nowMs = wallMs(this.#clock);
    const known = this.#sets.find(({ createdMs }) => nowMs - createdMs >= PUBLISHED_BEFORE_USE_MS) ?? this.#sets.at(-1);
    if (known === undefined) throw new CollectiveError('internal', 'Use an access key before one was made');
    return known;
  }
}

function ticketKey(set: KeySet, node: NodeName): Buffer {
  return createHmac('sha256', set.ticketMaster).update('collective ticket v1\0').update(node).digest();
}

function makeKeySet(nowMs: number, random: Random): KeySet {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    id: random.bytes(8).toString('hex'),
    createdMs: nowMs,
    privateKey,
    publicKey: rawPublicKey(publicKey),
    ticketMaster: random.bytes(32),
  };
}

function encode(sets: readonly KeySet[]): Buffer {
  const stored: StoredKeys = {
    version: FORMAT,
    keys: sets.map(({ id, createdMs, privateKey, ticketMaster }) => ({
      id,
      createdMs,
      privateKey: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64'),
      ticketMaster: ticketMaster.toString('base64'),
    })),
  };
  return Buffer.from(JSON.stringify(stored));
}

function decode(content: Buffer, path: string): KeySet[] {
  try {
    const stored = JSON.parse(content.toString('utf8')) as StoredKeys;
    if (stored.version > FORMAT)
      throw new CollectiveError(
        'version_too_new',
        `Read ${path}: it has format ${stored.version}, this program knows ${FORMAT}`,
      );
    return stored.keys.map(({ id, createdMs, privateKey, ticketMaster }) => {
      const key = createPrivateKey({ key: Buffer.from(privateKey, 'base64'), type: 'pkcs8', format: 'der' });
      return {
        id,
        createdMs,
        privateKey: key,
        publicKey: rawPublicKey(createPublicKey(key)),
        ticketMaster: Buffer.from(ticketMaster, 'base64'),
      };
    });
  } catch (cause) {
    if (cause instanceof CollectiveError) throw cause;
    throw new CollectiveError('store_damaged', `Read the access keys in ${path}`, {
      cause,
      todo: 'This one file may be removed: new keys are made, and clients ask again.',
    });
  }
}
