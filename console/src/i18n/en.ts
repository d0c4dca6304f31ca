import * as pages from './en/pages';
import * as settings from './en/settings';
import * as words from './en/words';

/** Every text of the console. The keys are those of `zh-CN`; a test compares them. */
export const en = { ...words, ...pages, ...settings };
