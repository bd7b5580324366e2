"""Detectors of transformers in PyTorch, for the benchmarks."""

from torch import nn


def detr(
    stem: int,
    classes: int,
    depth: int,
    decoder_depth: int,
    width: int,
    heads: int,
    mlp_width: int,
    queries: int,
) -> nn.Module:
    """Returns `arch.detr.DETR` on two stages of a ResNet of basic blocks, without dropout, with the losses of all
    blocks. All of the backbone trains but its norms.
    """
    from transformers import DetrConfig, DetrForObjectDetection

    backbone = {"model_type": "resnet", "layer_type": "basic", "embedding_size": stem, "hidden_sizes": [stem, 2 * stem]}
    backbone |= {"depths": [1, 1], "out_features": ["stage2"]}
    sizes = {"encoder_layers": depth, "decoder_layers": decoder_depth, "d_model": width, "num_queries": queries}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_attention_heads": heads, f"{side}_ffn_dim": mlp_width}
    options = {"dropout": 0.0, "auxiliary_loss": True, "num_labels": classes, "use_timm_backbone": False}
    model = DetrForObjectDetection(DetrConfig(backbone_config=backbone, **sizes, **options))
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # transformers freezes this backbone
    for module in model.modules():  # scale and bias of frozen norms count as parameters here
        for name in {"weight", "bias"} & dict(module.named_buffers(recurse=False)).keys():
            values = module._buffers.pop(name)
            module.register_parameter(name, nn.Parameter(values, requires_grad=False))
    return model.train()
