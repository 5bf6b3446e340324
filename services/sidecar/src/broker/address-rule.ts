/** Which addresses a caller's URL may reach: public ones only, unless the operator named the origin. Pure. */
import ipaddr from "ipaddr.js";

/** False for loopback, private, link-local, multicast, reserved and IPv4-in-IPv6 forms of those. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  return ipaddr.process(address).range() === "unicast";
}
