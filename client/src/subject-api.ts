/** The public shapes of what a user or client may do (T3a). Types only, as in `api.ts`. */

export interface SubjectName {
  readonly role: 'user' | 'client';
  readonly name: string;
}

/** What is not given is not allowed. */
export interface SubjectWish extends SubjectName {
  /** May administer the member. */
  readonly admin?: boolean;
  /** Its uids and gids are believed. */
  readonly trusted?: boolean;
  /** All that it does is done as this uid; default: the one that it has, or one of its own. */
  readonly uid?: number;
  /** Default: the root realm, read-write. */
  readonly realms?: readonly { readonly path: string; readonly readOnly?: boolean }[];
}

export interface RemovedSubject {
  readonly existed: boolean;
  /** That were ended. */
  readonly sessions: number;
}
