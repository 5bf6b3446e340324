/** The network interfaces that something could leave by, also where the kernel may not be asked for them. */
import { readFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";

/** Those with an address; without netlink (Node then throws), those with a route. Throws when neither can be seen. */
export async function readInterfaces(): Promise<string[]> {
  try {
    return Object.keys(networkInterfaces());
  } catch {
    const six = readFile("/proc/net/ipv6_route", "utf8").catch(() => ""); // a kernel without IPv6
    return toRoutedInterfaces(await readFile("/proc/net/route", "utf8"), await six);
  }
}

/** Of /proc/net/route, which has a heading and names first, and /proc/net/ipv6_route, which has none and names last. */
export function toRoutedInterfaces(route: string, route6: string): string[] {
  const toRows = (text: string): string[][] =>
    text
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map((line) => line.trim().split(/\s+/));
  const names = [
    ...toRows(route)
      .slice(1)
      .map(([name]) => name),
    ...toRows(route6).map((row) => row.at(-1)),
  ];
  return [...new Set(names.filter((name) => name !== undefined))];
}
