/** The door of the SDK: what a program outside this repository may import. */
export type * from './admin-target.ts';
export type * from './api.ts';
export type * from './certificate-requests-api.ts';
export { connect, connectAdmin } from './connect.ts';
export type { ContextVia } from './context/context-config.ts';
export { type ContextLocation, contextLocation } from './context/context-location.ts';
export { type ContextSettings, ContextStore, type ResolvedContext } from './context/context-store.ts';
export { type EnrolOptions, enrol } from './context/enrol.ts';
export { type CertificateRenewal, renewCertificate } from './context/renew-certificate.ts';
export { parseCoordinatorAddress } from './coordinator-address.ts';
export type * from './subject-api.ts';
export type * from './trash-api.ts';
export type * from './trust-api.ts';
