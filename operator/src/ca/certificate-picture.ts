/**
 * What the planner of certificates looks at, and what it answers with: plain data on both sides, so that a plan can be made
 * again from the same picture, by another replica or after a restart, and is the same.
 */
import type { X509Certificate } from 'node:crypto';
import type { CaState, CertificateSeen, Member } from '../api/member.ts';
import type { KubeObject } from '../kube/kube-object.ts';
import type { ForeignObjects } from '../member/foreign-objects.ts';
import type { Apply, PlannedCondition, PlannedEvent, Removal } from '../member/plan-types.ts';

export interface CertificatePicture {
  readonly nowMs: number;
  /** With the status that was stored last: a rotation is resumed from there. */
  readonly member: Member;
  readonly trustDomain: string;
  readonly namespace: string;
  /** False: cert-manager is older than 1.21, whose Certificates know no `spec.renewal`. */
  readonly renewalPolicySupported: boolean | 'absent';
  /** Of this member, by name. */
  readonly certificates: ReadonlyMap<string, KubeObject>;
  readonly issuers: ReadonlyMap<string, KubeObject>;
  readonly secrets: ReadonlyMap<string, KubeObject>;
  readonly configMaps: ReadonlyMap<string, KubeObject>;
  /** All leaves that the member needs: what is not named here is removed. */
  readonly leaves: readonly LeafWish[];
  /** Certificates and Secrets that are there under names of leaves and are not this member's: they are left alone. */
  readonly foreign: ForeignObjects;
  /** Of all peers, the coordinator itself among them; undefined when it cannot be asked. */
  readonly peers: readonly PeerReport[] | undefined;
}

export interface LeafWish {
  /** Of its Certificate and its Secret. */
  readonly name: string;
  readonly uri: string;
  /** The one of T2; of servers. */
  readonly dnsName?: string;
  readonly usages: 'server' | 'client';
}

export interface PeerReport {
  /** Its URI. */
  readonly peer: string;
  readonly bundleHash: string;
  /** Of the root that its leaf chains to: SHA-256, hex, with colons or without. */
  readonly rootFingerprint?: string;
  readonly connected: boolean;
}

export interface CertificatePlan {
  readonly objects: readonly Apply[];
  readonly removals: readonly Removal[];
  /** Certificates whose Issuing condition is set, by `issuingPatch`. */
  readonly renewals: readonly string[];
  /** Absent where nothing may begin: no cert-manager, and no authority from before. */
  readonly ca?: CaState;
  readonly certificates: readonly CertificateSeen[];
  readonly trustBundleHash?: string;
  /** The Issuer of leaves that are asked for now: for approved requests (T5). */
  readonly issuer?: string;
  /** That peers of this member trust, the newest first. */
  readonly roots: readonly X509Certificate[];
  /** Leaves that can be mounted. */
  readonly ready: ReadonlySet<string>;
  readonly condition: PlannedCondition;
  readonly stalled?: PlannedCondition;
  readonly events: readonly PlannedEvent[];
  readonly requeueAfterMs?: number;
}
