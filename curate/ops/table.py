"""The table of all ops by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from curate.ops.spec import Spec, spec_of
from curate.settings import unknown_message

OPS: Mapping[str, str] = {
    "image_size": "curate.ops.quality.image:image_size",
    "image_file": "curate.ops.quality.image:image_file",
    "colour_levels": "curate.ops.quality.image:colour_levels",
    "image_ok": "curate.ops.quality.image:image_ok",
    "sharpness": "curate.ops.quality.sharpness:sharpness",
    "colours": "curate.ops.quality.colours:colours",
    "layout": "curate.ops.quality.layout:layout",
    "qr_codes": "curate.ops.quality.qr_codes:qr_codes",
    "text_basic": "curate.ops.quality.text:text_basic",
    "language": "curate.ops.quality.text:language",
    "language_share": "curate.ops.quality.text:language_share",
    "text_digest": "curate.ops.quality.text:text_digest",
    "text_copies": "curate.ops.quality.text:text_copies",
    "caption_counts": "curate.ops.quality.wordnet:caption_counts",
    "wordnet_words": "curate.ops.quality.wordnet:wordnet_words",
    "head_score": "curate.ops.alignment.head_score:head_score",
    "clip_score": "curate.ops.alignment.clip_score:clip_score",
    "text_masked_clip_score": "curate.ops.alignment.text_masked:text_masked_clip_score",
    "clusters": "curate.ops.select.clusters:clusters",
    "target_clusters": "curate.ops.select.clusters:target_clusters",
    "soft_cap": "curate.ops.select.soft_cap:soft_cap",
    "entries": "curate.ops.select.balance:entries",
    "balance": "curate.ops.select.balance:balance",
    "semantic_duplicates": "curate.ops.dedup.semantic:semantic_duplicates",
    "caption": "curate.ops.synth.caption:caption",
    "describe": "curate.ops.synth.describe:describe",
    "fuse": "curate.ops.synth.fuse:fuse",
    "candidate_texts": "curate.ops.synth.fuse:candidate_texts",
    "answer_lengths": "curate.ops.synth.short_answers:answer_lengths",
    "short_answer_sources": "curate.ops.synth.short_answers:short_answer_sources",
    "add_format_prompt": "curate.ops.synth.short_answers:add_format_prompt",
    "instruction_document": "curate.ops.synth.instructions:instruction_document",
    "generation_document": "curate.ops.synth.instructions:generation_document",
    "annotation_questions": "curate.ops.synth.annotations:annotation_questions",
    "write_instructions": "curate.ops.synth.write_instructions:write_instructions",
    "judge_agreement": "curate.ops.synth.judge:judge_agreement",
    "alt_agreement": "curate.ops.synth.judge:alt_agreement",
    "conversation_key": "curate.ops.synth.conversations:conversation_key",
    "merged_conversations": "curate.ops.synth.conversations:merged_conversations",
    "shuffled_turns": "curate.ops.synth.conversations:shuffled_turns",
    "text_only_tuning": "curate.ops.synth.text_only_tuning:text_only_tuning",
    "question_fault": "curate.ops.synth.question_fault:question_fault",
    "picture_questions": "curate.ops.synth.picture_questions:picture_questions",
    "match_text": "curate.ops.alignment.match:match_text",
    "match_texts": "curate.ops.alignment.match:match_texts",
    "kept_texts": "curate.ops.alignment.match:kept_texts",
    "rank_captions": "curate.ops.alignment.rank:rank_captions",
    "image_signature": "curate.ops.dedup._signature:image_signature",
    "duplicate_images": "curate.ops.dedup.images:duplicate_images",
    "leaked_images": "curate.ops.dedup.leaked_images:leaked_images",
    "copy_descriptor": "curate.ops.dedup.copy_descriptor:copy_descriptor",
    "gopher_quality": "curate.ops.quality.gopher_c4_fineweb:gopher_quality",
    "gopher_repetition": "curate.ops.quality.repetition:gopher_repetition",
    "fineweb": "curate.ops.quality.gopher_c4_fineweb:fineweb",
    "c4_lines": "curate.ops.quality.gopher_c4_fineweb:c4_lines",
    "obelics_paragraph": "curate.ops.quality.gopher_c4_fineweb:obelics_paragraph",
    "obelics_text": "curate.ops.quality.gopher_c4_fineweb:obelics_text",
    "flagged_words": "curate.ops.quality.flagged:flagged_words",
    "text_signature": "curate.ops.dedup.near_texts:text_signature",
    "near_duplicate_texts": "curate.ops.dedup.near_texts:near_duplicate_texts",
    "chunks": "curate.ops.extract.chunks:chunks",
    "pii": "curate.ops.safety.pii:pii",
    "mask_pii": "curate.ops.safety.masks:mask_pii",
    "mask_pii_document": "curate.ops.safety.masks:mask_pii_document",
    "mask_pii_title": "curate.ops.safety.masks:mask_pii_title",
    "mask_pii_page": "curate.ops.safety.masks:mask_pii_page",
    "contamination": "curate.ops.dedup.decontaminate:contamination",
    "perplexity": "curate.ops.quality.perplexity:perplexity",
    "fasttext_quality": "curate.ops.quality.text:fasttext_quality",
    "line_digests": "curate.ops.dedup.text_repeats:line_digests",
    "repeated_lines": "curate.ops.dedup.text_repeats:repeated_lines",
    "without_repeated_lines": "curate.ops.dedup.text_repeats:without_repeated_lines",
    "fetch_images": "curate.ops.extract.fetch:fetch_images",
    "fetch_pictures": "curate.ops.extract.fetch:fetch_pictures",
    "picture_sections": "curate.ops.extract.picture_sections:picture_sections",
    "obelics_document": "curate.ops.extract.records:obelics_document",
    "mmc4_document": "curate.ops.extract.records:mmc4_document",
    "llava_document": "curate.ops.extract.records:llava_document",
    "chat_document": "curate.ops.extract.records:chat_document",
    "stored_images": "curate.ops.extract.stored_images:stored_images",
    "image_hashes": "curate.ops.dedup.image_copies:image_hashes",
    "image_copies": "curate.ops.dedup.image_copies:image_copies",
    "nsfw": "curate.ops.safety.nsfw:nsfw",
    "faces": "curate.ops.safety.faces:faces",
    "blur_faces": "curate.ops.safety.blur_faces:blur_faces",
    "blur_document_faces": "curate.ops.safety.blur_faces:blur_document_faces",
    "url_words": "curate.ops.quality.documents:url_words",
    "repeated_urls": "curate.ops.quality.documents:repeated_urls",
    "repeated_bytes": "curate.ops.quality.documents:repeated_bytes",
    "repeated_looks": "curate.ops.dedup.image_copies:repeated_looks",
    "image_address": "curate.ops.dedup.placeholders:image_address",
    "image_addresses": "curate.ops.dedup.placeholders:image_addresses",
    "near_evaluation": "curate.ops.dedup.near_evaluation:near_evaluation",
    "sentence_similarity": "curate.ops.alignment.assign:sentence_similarity",
    "assign_images": "curate.ops.alignment.assign:assign_images",
    "page_opt_out": "curate.ops.safety.opt_out:page_opt_out",
    "link_opt_out": "curate.ops.safety.opt_out:link_opt_out",
    "host_opt_out": "curate.ops.safety.opt_out:host_opt_out",
    "image_url_keys": "curate.ops.dedup.pages:image_url_keys",
    "image_url_counts": "curate.ops.dedup.pages:image_url_counts",
    "image_keys": "curate.ops.dedup.pages:image_keys",
    "image_counts": "curate.ops.dedup.pages:image_counts",
    "paragraph_keys": "curate.ops.dedup.pages:paragraph_keys",
    "repeated_paragraphs": "curate.ops.dedup.pages:repeated_paragraphs",
    "page_key": "curate.ops.dedup.pages:page_key",
    "duplicate_urls": "curate.ops.dedup.pages:duplicate_urls",
    "host_pages": "curate.ops.dedup.pages:host_pages",
    "image_set": "curate.ops.dedup.pages:image_set",
    "duplicate_image_sets": "curate.ops.dedup.pages:duplicate_image_sets",
    "meta_text": "curate.ops.extract.meta_text:meta_text",
    "html_document": "curate.ops.extract.html:html_document",
    "pdf_page": "curate.ops.extract.pdf:pdf_page",
    "render_page": "curate.ops.extract.pdf:render_page",
    "script": "curate.ops.extract.pdf:script",
    "ocr": "curate.ops.extract.ocr:ocr",
    "page_text": "curate.ops.extract.ocr:page_text",
    "render_text": "curate.ops.extract.render_text:render_text",
    "text_agreement": "curate.ops.extract.ocr:text_agreement",
}


def find_op(name: str) -> Callable[..., Any]:
    """The op called `name`: one of the table, or a user's own as `package.module:function`. Raises ValueError."""
    target = OPS.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise ValueError(f"{unknown_message('op', name, OPS)}; your own op is written package.module:function")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as err:  # a user's module may raise anything while it is imported
        raise ValueError(f"op {name!r} cannot be imported: {type(err).__name__}: {err}") from err
    if not isinstance(getattr(found, "spec", None), Spec):
        raise ValueError(f"op {name!r} is not declared: put @op(reads=..., writes=..., version=1) above it")
    return found  # type: ignore[no-any-return]


def ops_that_write(column: str) -> list[str]:
    """The ops of the table that write `column` and do not read it: what makes it in the first place."""
    specs = {name: spec_of(find_op(name)) for name in OPS}
    return [name for name, spec in specs.items() if column in spec.writes and column not in spec.reads]
