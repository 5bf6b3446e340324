/** Lays a laboratory's network: in one namespace, or in two with a cable between them. No route leads anywhere else. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { CABLE, CABLE_END, type KeeperSetting, LAB_OWN_ADDRESSES } from "./lab-words.ts";

/** Virtual Ethernet, as not every kernel has dummies. Throws where there would be a way out. */
export function layCables({ addresses, part }: KeeperSetting): void {
  if (part.name === "house") {
    const move = ["ip", "link", "set", CABLE_END, "netns", String(process.pid)];
    execFileSync("nsenter", ["--target", String(part.street), "--net", "--", ...move]);
  }
  const commands = [
    "link set lo up",
    part.name === "house"
      ? `link set ${CABLE_END} name ${CABLE}`
      : `link add ${CABLE} type veth peer name ${CABLE_END}`,
    `link set ${CABLE} up`,
    ...(part.name === "all" ? [`link set ${CABLE_END} up`] : []),
    ...addresses.map(toAddressCommand),
    ...toFar(part).map((address) => `route add ${address}/${isIPv6(address) ? 128 : 32} dev ${CABLE}`),
    ...["255.255.255.255/32", "224.0.0.0/4"].map((range) => `route add ${range} dev ${CABLE}`),
  ];
  execFileSync("ip", ["-batch", "-"], { input: commands.join("\n") });
  // Anybody may ask for an echo, as in a container.
  writeFileSync("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
  const ways = ["-4", "-6"].map((family) =>
    execFileSync("ip", [family, "route", "show", "default"], { encoding: "utf8" }),
  );
  if (ways.join("").trim() !== "") throw new Error("the laboratory has a way out");
}

/** What lies at the cable's other end. */
function toFar(part: KeeperSetting["part"]): readonly string[] {
  if (part.name === "house") return part.far.filter((address) => !isLinkLocal(address));
  return part.name === "street" ? LAB_OWN_ADDRESSES : [];
}

/** One host address has a network of 256, for its broadcasts. */
function toAddressCommand(address: string): string {
  if (isLinkLocal(address)) return `addr add ${address}/64 dev ${CABLE} nodad`;
  if (isIPv6(address)) return `addr add ${address}/128 dev ${CABLE} nodad`;
  return address === "10.0.0.5"
    ? `addr add ${address}/24 broadcast 10.0.0.255 dev ${CABLE}`
    : `addr add ${address}/32 dev ${CABLE}`;
}

export function isLinkLocal(address: string): boolean {
  return address.startsWith("fe80:");
}
