// An autostart that was changed on a Windows host, in a real browser: from the list of alerts to the event with the old
// and the new value. Started by tests/end-to-end (windows/watching.rs), which has changed it before.
// Fails on any page error, console error or CSP violation.
import assert from "node:assert/strict";

import { openBrowser, signIn } from "./browser.mjs";

const {
  RAMPART_URL: url,
  RAMPART_PASSWORD: password,
  RAMPART_ALERT: alert,
  RAMPART_RULE: rule,
  RAMPART_OLD: oldValue,
  RAMPART_NEW: newValue,
} = process.env;

const { browser, page, complaints, byTestId, shown } = await openBrowser(url);

await signIn({ page, shown, byTestId }, url, password);

await byTestId("nav-alerts").click();
await shown("alert-row");
await page.getByTestId("alert-row").filter({ hasText: rule }).first().click();
await page.waitForURL(`${url}/alerts/${alert}`);
for (const value of [oldValue, newValue]) {
  await page.getByText(value, { exact: true }).first().waitFor({ timeout: 15_000 });
}

await browser.close();
assert.deepEqual(complaints, [], "the browser complained");
console.log("a changed autostart is shown in the console with its old and its new value");
