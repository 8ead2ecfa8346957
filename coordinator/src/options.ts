/** What a coordinator must be told. Whoever starts it (command line, supervisor, test) builds this; it reads no flags itself. */
import type { Log } from '@collective/base/log';

export interface ListenAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface CoordinatorOptions {
  /** Name of the member (T1). */
  readonly member: string;
  readonly collective: string;
  /** Made if missing; belongs to one member for ever. */
  readonly dataFolder: string;
  readonly listen: ListenAddress;
  /** Plain HTTP for probes and metrics; none if not given. */
  readonly health?: ListenAddress;
  /** Folder with `tls.crt`, `tls.key`, `trust.pem`; default: `tls` in the data folder. */
  readonly trustFolder?: string;
  /** Makes the member's authority and the coordinator's certificate where none are (T4). */
  readonly autoTls?: boolean;
  /** Owner of the root directory at the first start; default: the user that the process runs as. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number };
  /** Refuse to begin: the data folder must hold the member's metadata already (K3). */
  readonly expectData?: boolean;
  /** Permission bits of the root directory that the first start makes; default 0755. */
  readonly rootMode?: number;
  /** Nodes that are let in by themselves: each that is not known yet finds an invitation in the folder. */
  readonly inviteNodes?: { readonly names: readonly string[]; readonly folder: string };
  /** Program version, for status. */
  readonly version?: string;
  readonly log?: Log;
}
