import * as pages from './zh-CN/pages';
import * as settings from './zh-CN/settings';
import * as words from './zh-CN/words';

export const zhCn = { ...words, ...pages, ...settings };
