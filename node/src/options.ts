/** What a node must be told. Whoever starts it (command line, supervisor, test) builds this; the node reads no flags itself. */
import type { Log } from '@collective/base/log';

export interface ListenAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface AdvertisedAddress {
  /** D10: 'internal', 'external'. */
  readonly listener: string;
  readonly host: string;
  /** Default: the port that is listened on. */
  readonly port?: number;
}

export interface NodeOptions {
  /** Folder with `tls.crt`, `tls.key`, `trust.pem`; the node's name is in the certificate. */
  readonly trustFolder: string;
  readonly coordinator: { readonly host: string; readonly port: number };
  /** The store's folder; made if missing. */
  readonly dataFolder: string;
  /** What the owner gives. */
  readonly capacityBytes: number;
  /** Kept free of it; default the larger of 64 MiB and 2%. */
  readonly reserveBytes?: number;
  readonly listen: ListenAddress;
  /** Default: one listener 'internal' with the host that is listened on. */
  readonly advertise?: readonly AdvertisedAddress[];
  readonly zone?: string;
  /** Plain HTTP for probes and metrics; none if not given. */
  readonly health?: ListenAddress;
  /** Streams under way at the end have so long; default 3 s. */
  readonly drainWithinMs?: number;
  /** Program version, for status. */
  readonly version?: string;
  readonly log?: Log;
}
