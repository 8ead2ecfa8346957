/** The storage nodes as planners see them: a snapshot of facts, made by the node table, so that plans are pure functions. */

/** What an administrator has said a node is for; the numbers are those of its row. */
export const DUTIES = ['active', 'cordoned', 'draining'] as const;
export type Duty = (typeof DUTIES)[number];

export interface PicturedNode {
  readonly name: string;
  /** uuid of the disk that it has now. */
  readonly disk: string;
  /** Starts of its chunk store: what was not stable in an earlier one may be gone. */
  readonly incarnation: number;
  readonly heard: 'ready' | 'full' | 'away';
  readonly duty: Duty;
  readonly zone: string;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  /** That it can take above its reserve. */
  readonly freeBytes: number;
  /** Since its last heartbeat, or since this coordinator has begun to listen; 0 while it is heard of. */
  readonly awayForMs: number;
  /** Away for so long that it is given up (D8): its replicas do not count, and count again should it come back. */
  readonly lost: boolean;
}

export type NodePicture = ReadonlyMap<string, PicturedNode>;

/** As if this node were the fullest of all: of copies of which one is too many, its own goes before others that are as good. */
export function relieving(picture: NodePicture, name: string): NodePicture {
  const node = picture.get(name);
  return node === undefined ? picture : new Map(picture).set(name, { ...node, usedBytes: Number.MAX_SAFE_INTEGER });
}
