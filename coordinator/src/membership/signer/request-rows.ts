/**
 * The rows of requests that are signed elsewhere (T5). A request is found again by its subject and its public key, so that who
 * repeats it gets the answer of the first time. Everything has an end: a row its time, a subject its share of rows, and all
 * together a bound; what is answered gives way before what waits.
 */
import { createHash } from 'node:crypto';
import type { Timestamp } from '@collective/base/clock';
import { CollectiveError } from '@collective/base/errors';
import type { CheckedRequest } from '@collective/protocol/tls/check-csr';
import type { Transaction } from '../../engine/transaction.ts';
import type { RequestRow } from '../../tables/gen/tables.ts';
import { prefixEnd } from '../../tables/table.ts';
import { REQUESTS } from '../../tables/tables.ts';

export const REQUESTS_MAX = 512;
export const REQUESTS_OF_A_SUBJECT_MAX = 4;
/** Who waits asks again: a request that nobody asks about for so long is not wanted any more. */
const KEPT_SECONDS = 3_600;
/** For answers that were lost on the way. */
const ANSWERED_SECONDS = 3_600;
/** Then another try may be answered otherwise. */
const REFUSED_SECONDS = 60;
/** A younger row gives no room to another: this bounds how much one subject, or all, can have signed. */
const STAYS_SECONDS = 60;

/** Of a row as it was kept: one that takes its place later is another request. */
export function requestIdOf(key: string, { kept }: RequestRow): string {
  return `${key}-${kept?.seconds ?? 0}`;
}

export function requestKeyOf({ id, publicKey }: Pick<CheckedRequest, 'id' | 'publicKey'>): string {
  return createHash('sha256').update(`${id.uri}\n`).update(publicKey).digest('hex');
}

export interface StoredRequest {
  readonly key: string;
  readonly row: RequestRow;
}

/** The row of the request, as it is or kept anew; anew also in the place of an answer that is of no use. Throws `overloaded`. */
export function keepRequest(
  tx: Transaction,
  request: CheckedRequest,
  isOfUse: (answered: RequestRow) => boolean,
): { row: RequestRow; isNew: boolean } {
  const key = requestKeyOf(request);
  const known = livingRequest(tx, key);
  if (known !== undefined && (!isAnswered(known) || isOfUse(known))) return { row: known, isNew: false };
  if (known === undefined) makeRoom(tx, request.id.uri);
  const row: RequestRow = {
    uri: request.id.uri,
    csr: request.csr,
    kept: tx.now,
    expires: later(tx.now, KEPT_SECONDS),
    certificatePem: '',
    refused: '',
  };
  tx.put(REQUESTS, row, key);
  return { row, isNew: true };
}

export function livingRequest(tx: Transaction, key: string): RequestRow | undefined {
  const row = tx.get(REQUESTS, key);
  return row === undefined || hasExpired(row, tx.now) ? undefined : row;
}

/** Undefined: it is not kept, or is another one by now. */
export function requestOfId(tx: Transaction, id: string): StoredRequest | undefined {
  const [, key] = /^([0-9a-f]{64})-[0-9]+$/.exec(id) ?? [];
  const row = key === undefined ? undefined : livingRequest(tx, key);
  return key === undefined || row === undefined || requestIdOf(key, row) !== id ? undefined : { key, row };
}

/** Oldest first. */
export function waitingRequests(tx: Transaction, limit: number): StoredRequest[] {
  return allRequests(tx)
    .filter(({ row }) => !isAnswered(row) && !hasExpired(row, tx.now))
    .sort((a, b) => keptAt(a) - keptAt(b))
    .slice(0, limit);
}

export type RequestAnswer =
  | { readonly certificatePem: string; readonly notAfterMs: number }
  | { readonly refused: string };

export function answerRequest(tx: Transaction, { key, row }: StoredRequest, answer: RequestAnswer): void {
  const answered =
    'refused' in answer
      ? { ...row, refused: answer.refused, expires: later(tx.now, REFUSED_SECONDS) }
      : { ...row, certificatePem: answer.certificatePem, expires: endOf(tx.now, answer.notAfterMs) };
  tx.put(REQUESTS, answered, key);
}

export function isAnswered({ certificatePem, refused }: RequestRow): boolean {
  return certificatePem !== '' || refused !== '';
}

/** Of a subject that was removed: whoever waits for its certificate gets none. */
export function removeRequestsOf(tx: Transaction, uri: string): void {
  for (const { key, row } of allRequests(tx)) if (row.uri === uri) tx.remove(REQUESTS, key);
}

function makeRoom(tx: Transaction, uri: string): void {
  const rows = allRequests(tx).filter(({ key, row }) => {
    if (!hasExpired(row, tx.now)) return true;
    tx.remove(REQUESTS, key);
    return false;
  });
  const stays = ({ row }: StoredRequest): boolean => (row.kept?.seconds ?? 0) + STAYS_SECONDS > tx.now.seconds;
  const own = rows.filter(({ row }) => row.uri === uri);
  if (own.length >= REQUESTS_OF_A_SUBJECT_MAX)
    giveWay(tx, own, stays, `${REQUESTS_OF_A_SUBJECT_MAX} requests of this subject are kept already`, uri);
  else if (rows.length >= REQUESTS_MAX) {
    const answered = rows.filter(({ row }) => isAnswered(row));
    giveWay(tx, answered, stays, `${REQUESTS_MAX} requests of this member are kept already`, uri);
  }
}

function giveWay(
  tx: Transaction,
  rows: readonly StoredRequest[],
  stays: (stored: StoredRequest) => boolean,
  why: string,
  uri: string,
): void {
  const [oldest] = rows.toSorted((a, b) => keptAt(a) - keptAt(b));
  if (oldest === undefined || stays(oldest))
    throw new CollectiveError('overloaded', `Keep the request of ${uri} for a certificate: ${why}; ask again later`);
  tx.remove(REQUESTS, oldest.key);
}

function allRequests(tx: Transaction): StoredRequest[] {
  return tx
    .scan(REQUESTS, REQUESTS.prefix, prefixEnd(REQUESTS.prefix), REQUESTS_MAX)
    .map(({ key, value }) => ({ key: key.slice(REQUESTS.prefix.length), row: value }));
}

/** For an order only: less exact than it is stored. */
function keptAt({ row: { kept } }: StoredRequest): number {
  return (kept?.seconds ?? 0) + (kept?.nanos ?? 0) / 1e9;
}

function hasExpired({ expires }: RequestRow, now: Timestamp): boolean {
  return (expires?.seconds ?? 0) <= now.seconds;
}

function later({ seconds, nanos }: Timestamp, bySeconds: number): Timestamp {
  return { seconds: seconds + bySeconds, nanos };
}

/** A certificate is answered again for a while, and never when it is over. */
function endOf(now: Timestamp, notAfterMs: number): Timestamp {
  return { seconds: Math.min(now.seconds + ANSWERED_SECONDS, Math.floor(notAfterMs / 1_000)), nanos: 0 };
}
