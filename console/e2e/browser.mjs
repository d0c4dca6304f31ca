// What the tests in a real browser share: Chromium, and its complaints (page errors, console errors, CSP violations,
// requests to anywhere else), of which a test must find none at its end.
import { chromium } from "playwright-core";

export async function openBrowser(url) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    locale: "en-US",
    viewport: { width: 1440, height: 900 },
  });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`page error: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    // The browser itself reports the 401 with which the server answers before the sign-in.
    if (message.type() === "error" && !message.text().includes("status of 401")) complaints.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) complaints.push(`outside: ${request.url()}`);
  });

  const byTestId = (id) => page.getByTestId(id).first();
  const shown = (id) => byTestId(id).waitFor({ timeout: 15_000 });
  return { browser, page, complaints, byTestId, shown };
}

/** Signs in as `admin` with a one-time password, and chooses another one. */
export async function signIn({ page, shown, byTestId }, url, password) {
  await page.goto(url);
  await shown("signin-username");
  await byTestId("signin-username").fill("admin");
  await byTestId("signin-password").fill(password);
  await byTestId("signin-submit").click();
  await chooseOwnPassword({ shown, byTestId }, password);
}

/** After a sign-in with a one-time password the console asks for another one. */
export async function chooseOwnPassword({ shown, byTestId }, password) {
  await shown("password-new");
  const chosen = "correct horse battery staple";
  await byTestId("password-current").fill(password);
  await byTestId("password-new").fill(chosen);
  await byTestId("password-repeat").fill(chosen);
  await byTestId("password-submit").click();
}
