export { ERROR_CODES, type ErrorCode, type ErrorEntry, isErrorCode } from './codes.ts';
export { CollectiveError, errorChain, toCollectiveError } from './collective-error.ts';
