/**
 * What the coordinator is to know of `spec.users` (T3a): subjects to write, and to remove once nobody names them here. Status keeps
 * the names of all that were written, and keeps a name before anything is written under it, so that no subject is left behind
 * by an operator that stops. Subjects that others made (by token, by hand) are never touched.
 */
import type { Member, MemberStatus, MemberUser } from '../api/member.ts';
import { userLeaves } from './user-leaves.ts';

export interface SubjectOrder {
  readonly role: 'user';
  readonly name: string;
  readonly admin: boolean;
  readonly trusted: boolean;
  /** Absent: the one that it has, or one of its own. */
  readonly uid?: number;
  /** Empty: the root realm, read and write. */
  readonly realms: readonly { readonly path: string; readonly readOnly: boolean }[];
}

/** What the coordinator says of a subject. */
export interface SubjectSeen {
  readonly role: string;
  readonly name: string;
  readonly admin: boolean;
  readonly trusted: boolean;
  readonly uid: number;
  readonly realms: readonly { readonly path: string; readonly readOnly: boolean }[];
}

type UsersStatus = NonNullable<MemberStatus['users']>;

export interface SubjectsPlan {
  /** Of those that the coordinator has otherwise, or not at all. */
  readonly puts: readonly SubjectOrder[];
  /** Names. */
  readonly removals: readonly string[];
  readonly users: UsersStatus;
}

/** `subjects`: all of the coordinator; undefined while it cannot be asked. */
export function planSubjects(
  member: Member,
  trustDomain: string,
  subjects: readonly SubjectSeen[] | undefined,
): SubjectsPlan {
  const wanted = member.spec.users ?? [];
  const secrets = new Map(userLeaves(member, trustDomain).map(({ uri, name }) => [uri, name]));
  const stored = member.status?.users ?? [];
  const isWanted = (name: string): boolean => wanted.some((user) => user.name === name);
  const isKept = (name: string): boolean => stored.some((user) => user.name === name);
  const seenUser = (name: string): SubjectSeen | undefined =>
    subjects?.find((subject) => subject.role === 'user' && subject.name === name);
  const left = stored.filter(({ name }) => !isWanted(name));
  return {
    puts:
      subjects === undefined
        ? []
        : wanted
            .filter(({ name }) => isKept(name))
            .map(orderOf)
            .filter((order) => !isWritten(order, seenUser(order.name))),
    removals: left.filter(({ name }) => seenUser(name) !== undefined).map(({ name }) => name),
    users: [
      ...wanted.map(({ name, identity }) => {
        const uid =
          identity === 'Trusted' ? undefined : (seenUser(name)?.uid ?? stored.find((one) => one.name === name)?.uid);
        const secretName = secrets.get(`spiffe://${trustDomain}/user/${name}`) ?? '';
        return { name, secretName, ...(uid === undefined ? {} : { uid }) };
      }),
      // Until the coordinator says that it is gone.
      ...left.filter(({ name }) => subjects === undefined || seenUser(name) !== undefined),
    ],
  };
}

function orderOf({ name, admin = false, identity = 'Squashed', uid, realms = [] }: MemberUser): SubjectOrder {
  const trusted = identity === 'Trusted';
  return {
    role: 'user',
    name,
    admin,
    trusted,
    ...(uid === undefined || trusted ? {} : { uid }),
    realms: realms.map(({ path, readOnly = false }) => ({ path, readOnly })),
  };
}

/** The root realm, read and write, is what a subject gets for whom no realm is named. */
const ROOT_REALM = [{ path: '/', readOnly: false }];

function isWritten(order: SubjectOrder, seen: SubjectSeen | undefined): boolean {
  if (seen === undefined || seen.admin !== order.admin || seen.trusted !== order.trusted) return false;
  if (order.uid !== undefined && seen.uid !== order.uid) return false;
  const spelled = (realms: SubjectOrder['realms']): string =>
    realms
      .map(({ path, readOnly }) => `${path}${readOnly ? ':ro' : ''}`)
      .sort()
      .join();
  return spelled(order.realms.length === 0 ? ROOT_REALM : order.realms) === spelled(seen.realms);
}
