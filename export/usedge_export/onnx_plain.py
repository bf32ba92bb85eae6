"""ONNX files without what torch notes in them: it names the files of the machine that converted the model."""

from __future__ import annotations

from usedge_export.quiet import quiet


def without_notes(content: bytes) -> bytes:
    """The same graph as the ONNX file ``content``, with no metadata at its nodes and values.

    The notes hold a stack trace for each node, so that the same model would give other bytes in another
    folder. Raises InputError where onnx cannot read it.
    """
    with quiet("onnx"):
        import onnx

        model = onnx.load_from_string(content)
        for each in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input,
                     *model.graph.output, *model.graph.initializer, *model.functions):
            if each is not model:  # whose own are ours: how many patches there are
                del each.metadata_props[:]
            each.doc_string = ""
        for function in model.functions:
            for node in function.node:
                del node.metadata_props[:]
        return bytes(model.SerializeToString(deterministic=True))
